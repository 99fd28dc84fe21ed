"""Scripts of transformers for language models, answers and translations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from real_programs.made_up import TOKENS, bert, prepared, sentences, write_lines, write_tokenizer
from real_programs.trainer_scripts import FILES, script

_TEXTS = "--train_file {data}/train.txt --validation_file {data}/validation.txt"
_PAIRS = (
    "--train_file {data}/train.json --source_lang en --target_lang de --max_source_length 16 --max_target_length 16"
)


def llama() -> Any:
    """A small causal model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=TOKENS,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.3,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )
    return LlamaForCausalLM(config)


def _gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=TOKENS, n_embd=32, n_layer=2, n_head=2, n_positions=32, initializer_range=0.3, eos_token_id=3
    )
    return GPT2LMHeadModel(config)


def _t5() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(  # type: ignore[call-arg]  # keys of all configurations
        vocab_size=TOKENS,
        d_model=32,
        d_kv=16,
        d_ff=64,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=3,
    )
    return T5ForConditionalGeneration(config)


def _bart() -> Any:
    from transformers import BartConfig, BartForConditionalGeneration

    config = BartConfig(
        vocab_size=TOKENS,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=32,
        init_std=0.3,
        decoder_start_token_id=2,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        forced_eos_token_id=3,
    )
    return BartForConditionalGeneration(config)


def bare_tokenizer(folder: Path) -> None:
    """One that adds nothing to a text."""
    write_tokenizer(folder, template="")


def _ending(folder: Path) -> None:
    write_tokenizer(folder, template="$A [SEP]")


def _texts(folder: Path) -> None:
    for part in ("train", "validation"):
        (folder / f"{part}.txt").write_text("\n".join(sentences(60)), encoding="utf-8")


def _answers(folder: Path) -> None:
    rows = []
    for index, text in enumerate(sentences(24, shortest=16, longest=30)):
        words = text.split()
        answer = words[index % len(words)]
        answers = {"text": [answer], "answer_start": [text.index(answer)]}
        rows.append({"id": str(index), "question": " ".join(words[:4]), "context": text, "answers": answers})
    for part in ("train", "validation"):
        (folder / f"{part}.json").write_text(json.dumps({"data": rows}), encoding="utf-8")


def _pairs(folder: Path) -> None:
    texts = sentences(48)
    rows = [{"translation": {"en": text, "de": " ".join(reversed(text.split()[:-1]))}} for text in texts]
    write_lines(folder / "train.json", rows)


_BART = prepared(_bart, _ending, _pairs)
_CLM = "language-modeling/run_clm.py"
_TRANSLATION = "translation/run_translation.py"

LANGUAGE = [
    script(
        "run_mlm",
        "run_mlm.py",
        "language-modeling/run_mlm.py",
        prepared(bert("MaskedLM"), write_tokenizer, _texts),
        _TEXTS + " --line_by_line --max_seq_length 16",
        model="AutoModelForMaskedLM",
        value="tokens",
    ),
    script(
        "run_clm",
        "run_clm.py, Llama",
        _CLM,
        prepared(llama, bare_tokenizer, _texts),
        _TEXTS + " --block_size 16",
        model="AutoModelForCausalLM",
        value="next_tokens",
    ),
    script(
        "run_clm-accumulated",
        "run_clm.py, GPT-2, 2 micro-batches",
        _CLM,
        prepared(_gpt2, bare_tokenizer, _texts),
        _TEXTS + " --block_size 16 --gradient_accumulation_steps 2",
        model="AutoModelForCausalLM",
        value="next_tokens",
        load="load_teacher",
    ),
    script(
        "run_qa",
        "run_qa.py",
        "question-answering/run_qa.py",
        prepared(bert("QuestionAnswering"), write_tokenizer, _answers),
        FILES + " --max_seq_length 32 --doc_stride 8",
        model="AutoModelForQuestionAnswering",
        value="answers",
        trainer="QuestionAnsweringTrainer",
    ),
    script(
        "run_translation",
        "run_translation.py, T5",
        _TRANSLATION,
        prepared(_t5, _ending, _pairs),
        _PAIRS,
        model="AutoModelForSeq2SeqLM",
        value="tokens",
        trainer="Seq2SeqTrainer",
    ),
    script(
        "run_translation-padded",
        "run_translation.py, BART, `--pad_to_max_length`",
        _TRANSLATION,
        _BART,
        _PAIRS + " --pad_to_max_length",
        model="AutoModelForSeq2SeqLM",
        value="tokens",
        trainer="Seq2SeqTrainer",
    ),
    script(
        "run_translation-smoothed",
        "run_translation.py, BART, `--label_smoothing_factor`",
        _TRANSLATION,
        _BART,
        _PAIRS + " --label_smoothing_factor 0.1",
        model="AutoModelForSeq2SeqLM",
        value="tokens",
        trainer="Seq2SeqTrainer",
    ),
]
