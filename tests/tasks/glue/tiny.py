"""Encoders and GLUE data so small that a fine-tuning takes a fraction of a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import torch
from pyarrow import parquet

from headstart.tasks.glue.protocol import GLUE_TASKS

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
GOOD, BAD = ("fine", "great", "lovely"), ("awful", "dull", "poor")
OTHERS = ("the", "film", "was", "and", "a", "very", "plot", "it")
POSITIONS = 24


def tokenizer(words: tuple[str, ...] = (*GOOD, *BAD, *OTHERS)) -> Any:
    """A tokenizer of whole words, in BERT's frame for pairs."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *words))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    pad, unknown, cls, sep, mask = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=pad, unk_token=unknown, cls_token=cls, sep_token=sep, mask_token=mask
    )


def masked_lm(kind: str = "bert", **changes: Any) -> Any:
    """A masked LM of one layer with weights from torch's default generator."""
    from transformers import AutoConfig, AutoModelForMaskedLM

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    if kind == "distilbert":
        sizes = {"dim": 16, "hidden_dim": 32, "n_layers": 1, "n_heads": 2}
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    settings = {"vocab_size": 19, "max_position_embeddings": POSITIONS, **sizes, **ids, **changes}
    return AutoModelForMaskedLM.from_config(AutoConfig.for_model(kind, **settings))


def write_checkpoint(folder: Path, kind: str = "bert", *, seed: int = 0, **changes: Any) -> Path:
    """What a run of an mlm recipe leaves, as far as GLUE needs it."""
    torch.manual_seed(seed)
    masked_lm(kind, **changes).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def table(task: str, rows: int, *, seed: int = 0) -> dict[str, list[Any]]:
    """Texts whose label can be learnt: it is told by which kind of word each text holds."""
    generator = np.random.default_rng((seed, *map(ord, task)))
    columns, classes = GLUE_TASKS[task].columns, GLUE_TASKS[task].classes
    content: dict[str, list[Any]] = {column: [] for column in (*columns, "label")}
    for _ in range(rows):
        kinds = generator.integers(0, 2, size=len(columns))
        for column, kind in zip(columns, kinds, strict=True):
            words = [*generator.choice(OTHERS, size=generator.integers(1, 6)), generator.choice((BAD, GOOD)[kind])]
            content[column].append(" ".join(generator.permutation(words)))
        content["label"].append(float(5 * kinds.mean()) if classes == 1 else int(kinds.sum()) % classes)
    return content


def write_split(folder: Path, split: str, content: dict[str, list[Any]]) -> Path:
    """Write `<folder>/<split>.parquet`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{split}.parquet"
    parquet.write_table(pyarrow.table(content), path)
    return path


def write_task(data: Path, task: str, *, train: int = 40, validation: int = 21) -> Path:
    """Write all splits of a task to `<data>/glue/<task>`."""
    folder = data / "glue" / task
    write_split(folder, "train", table(task, train))
    for number, split in enumerate(GLUE_TASKS[task].validation, start=1):
        write_split(folder, split, table(task, validation, seed=number))
    return folder
