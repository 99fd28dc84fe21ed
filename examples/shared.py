"""What the examples share, and your training has already: options, data, a model, and the record of a run.

The data comes with what is installed: scikit-learn's handwritten digits, and Python's language reference.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

CHARACTERS = 200_000  # of the text; enough for a tiny model


def options(description: str | None) -> argparse.ArgumentParser:
    """The options of every example; `--record` is what `headstart race --cmd` gives."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="of the optimiser")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", help="where to write the weights, which can then teach")
    parser.add_argument("--record", type=Path, help="where to write quality and seconds, as JSON")
    return parser


def write_record(path: Path | None, quality: float, seconds: float, **more: Any) -> None:
    """Print how good the model became and how long its training took, and write it if there is a path."""
    record = {"quality": quality, "seconds": seconds, **more}
    print(record)
    if path is not None:
        path.write_text(json.dumps(record), encoding="utf-8")


def digits() -> tuple[TensorDataset, TensorDataset]:
    """1437 training and 360 test images of handwritten digits, `[1, 8, 8]` in [-1, 1], with their classes."""
    images, labels = load_digits(return_X_y=True)
    data = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 8 - 1, torch.tensor(labels)
    test = torch.arange(len(labels)) % 5 == 0
    return TensorDataset(*(part[~test] for part in data)), TensorDataset(*(part[test] for part in data))


class Net(nn.Sequential):
    """A small convolutional network for the digits."""

    def __init__(self) -> None:
        convolutions = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()]
        super().__init__(*convolutions, nn.Flatten(), nn.Linear(32 * 9, 10))


@torch.no_grad()
def accuracy(model: nn.Module, data: TensorDataset) -> float:
    """The fraction of images whose class the model gets right."""
    images, labels = data.tensors
    model.eval()
    return float((model(images).argmax(-1) == labels).float().mean())


def text_blocks(tokenizer: Any, length: int) -> tuple[list[dict[str, list[int]]], list[dict[str, list[int]]]]:
    """The text, cut into blocks of tokens: those to train on, and a tenth to test on."""
    text = "\n".join(topics[name] for name in sorted(topics))[:CHARACTERS]
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    blocks = [{"input_ids": tokens[i : i + length]} for i in range(0, len(tokens) - length, length)]
    return [block for i, block in enumerate(blocks) if i % 10], blocks[::10]
