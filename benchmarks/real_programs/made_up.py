"""Made-up data and models for the programs: a few sentences, a few images, models with random weights."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

WORDS = [f"{first}{last}" for first in ("ba", "do", "ki", "lu", "me") for last in ("n", "r", "st", "la", "to", "we")]
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TOKENS = len(_SPECIAL) + len(WORDS)
SIZE = 32  # of images


def sentences(count: int, *, shortest: int = 4, longest: int = 12) -> list[str]:
    """Sentences of different lengths, the same each time."""
    draw = random.Random(1)
    return [" ".join(draw.choices(WORDS, k=draw.randint(shortest, longest))) for _ in range(count)]


def write_lines(path: Path, rows: Sequence[object]) -> None:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_tokenizer(folder: Path, *, template: str = "[CLS] $A [SEP]") -> int:
    """A tokenizer of whole words; returns how many tokens it has."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate([*_SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if template:
        special = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]") if token in template]
        pair = f"{template} $B:1 [SEP]:1"
        tokenizer.post_processor = processors.TemplateProcessing(single=template, pair=pair, special_tokens=special)
    fast: Any = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        eos_token="[SEP]",
        model_max_length=32,
    )
    fast.save_pretrained(folder)
    return len(vocabulary)


def prepared(
    make: Callable[[], Any], also: Callable[[Path], Any], data: Callable[[Path], None]
) -> Callable[[Path], None]:
    """What fills a folder for a program.

    Args:
        make: Gives a model; two of different weights are written, `student` and `teacher`.
        also: Writes what belongs to a model, beside each.
        data: Writes the data.
    """

    def prepare(folder: Path) -> None:
        for seed, name in enumerate(("student", "teacher")):
            torch.manual_seed(seed)
            make().save_pretrained(folder / name)
            also(folder / name)
        data(folder)

    return prepare


def bert(kind: str, **more: Any) -> Callable[[], Any]:
    """A small BERT of one kind (`SequenceClassification`, ...), whose outputs are not all alike."""

    def make() -> Any:
        import transformers

        config = transformers.BertConfig(
            vocab_size=TOKENS,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=32,
            initializer_range=0.3,
            **more,
        )
        return getattr(transformers, f"BertFor{kind}")(config)

    return make


def images(count: int, *, seed: int = 0) -> list[Image.Image]:
    """Images of a size, of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    return [Image.fromarray(one) for one in pixels]


def write_image_folder(folder: Path) -> None:
    """`images`, with a folder for each part, with one for each of three classes."""
    for part in ("train", "validation"):
        for label in range(3):
            place = folder / "images" / part / f"class{label}"
            place.mkdir(parents=True)
            for index, image in enumerate(images(8, seed=label)):
                image.save(place / f"{index}.png")
