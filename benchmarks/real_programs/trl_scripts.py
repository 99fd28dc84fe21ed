"""TRL's script for supervised fine-tuning, as it is installed."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from real_programs.made_up import prepared, sentences, write_lines
from real_programs.program import Edit, Setup
from real_programs.text_scripts import bare_tokenizer, llama
from real_programs.trainer_scripts import COMMON, RESUME

_INIT = "    # Initialize the SFT trainer\n    trainer = SFTTrainer(\n"


def _texts(folder: Path) -> None:
    (folder / "texts").mkdir()
    write_lines(folder / "texts" / "train.jsonl", [{"text": text} for text in sentences(60)])


def _prompts(folder: Path) -> None:
    (folder / "texts").mkdir()
    halves = [(text.split()[:3], text.split()[3:]) for text in sentences(60, shortest=6)]
    rows = [{"prompt": " ".join(asked), "completion": " " + " ".join(told)} for asked, told in halves]
    write_lines(folder / "texts" / "train.jsonl", rows)


def _sft(name: str, title: str, options: str = "", *, data: Callable[[Path], None] = _texts) -> Setup:
    return Setup(
        name=name,
        title=title,
        script="installed:trl/scripts/sft.py",
        page="trainer.md",
        prepare=prepared(llama, bare_tokenizer, data),
        options=[
            *COMMON,
            *shlex.split("--dataset_name {data}/texts --dtype float32 --bf16 False --max_length 16 " + options),
        ],
        lines=[
            Edit(
                _INIT,
                "    from headstart import load_teacher\n    from headstart.adapters.trainer import DistillTrainer\n\n"
                "    class Mine(DistillTrainer, SFTTrainer):\n        pass\n\n"
                "    # Initialize the SFT trainer\n    trainer = Mine(\n"
                '        teachers=load_teacher(TEACHER),\n        distill={"stop": STOP},\n',
            )
        ],
        by_hand=[
            Edit(
                _INIT,
                "    from by_hand import ByHand, frozen, next_tokens\n"
                "    from transformers import AutoModelForCausalLM\n"
                "    class Taught(ByHand, SFTTrainer):\n        pass\n"
                "    trainer = Taught(\n        anew=True,\n        value=next_tokens,\n"
                "        teacher=frozen(lambda: AutoModelForCausalLM.from_pretrained(TEACHER)),\n",
            )
        ],
        resume=RESUME,
    )


TRL = [
    _sft("trl-sft", "TRL's sft.py, as it is"),
    _sft("trl-packing", "TRL's sft.py, `--packing`", "--packing --gradient_accumulation_steps 2"),
    _sft("trl-completions", "TRL's sft.py, completions alone", data=_prompts),
    _sft("trl-peft", "TRL's sft.py, `--use_peft`", "--use_peft --lora_r 4 --lora_target_modules q_proj v_proj"),
]
