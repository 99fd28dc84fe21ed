"""What cutting a language model to half its size costs: seconds and memory, beside reading its file.

Usage: python benchmarks/init.py [--layers 16 --width 2048] [--repeats 5] [--results benchmarks/results]

The model is a Llama of 1.1 billion random weights in bf16, in parts of 500 MB, made on the spot in a temporary folder
(2.2 GB), read and cut once before anything is timed, so that the system has its files in memory and what is imported
is no part of either. Reading is opening the parts and copying each tensor into memory of its own, one after the other,
and letting it go; loading, timed beside it, keeps them all, as the smaller model is kept.
Cutting is what `headstart init` does before it writes: reading the configuration and the parts, building the smaller
model, filling it. The two take turns. Goals: cutting takes no more than 1.5 times as long as reading, and no more
memory at a time than 1.2 times source and student together. Memory is what the kernel saw the process occupy, pages of
mapped files included. Cutting and writing the checkpoint (1 GB), all that the command does, is timed beside it, and so
is building the model alone, of cutting a part.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import save_file
from torch import Tensor

from headstart.commands.init import Way, make_model, write_init
from headstart.commands.like import built, changed_config
from headstart.teachers.lazy import lazy_weights
from headstart.teachers.source import load_source
from peak_memory import peak_bytes
from results_file import RESULTS, Figure, command_line, finish

_CPU = torch.device("cpu")
_HEAD = 64  # channels of an attention head
_INDEX = "model.safetensors.index.json"


def make_source(folder: Path, *, layers: int, width: int, vocabulary: int = 32_000, part: int = 500_000_000) -> None:
    """Write a Llama with random weights: configuration, parts, index."""
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = width // _HEAD
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 4,
        vocab_size=vocabulary,
        dtype="bfloat16",
        tie_word_embeddings=False,
        architectures=["LlamaForCausalLM"],
    )
    config.save_pretrained(folder)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in LlamaForCausalLM(config).state_dict().items()}
    names: dict[str, str] = {}
    held: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        held[name] = torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02)
        if sum(value.nbytes for value in held.values()) >= part or name == list(shapes)[-1]:
            file = f"model-{len(set(names.values())) + 1:05}.safetensors"
            save_file(held, folder / file, metadata={"format": "pt"})
            names |= dict.fromkeys(held, file)
            held = {}
    (folder / _INDEX).write_text(json.dumps({"weight_map": names}))


def half_of(layers: int, width: int) -> str:
    """The shape of about half as many weights: three quarters of the layers and of the width, heads whole."""
    heads = max(4, 3 * (width // _HEAD) // 4 // 4 * 4)
    small = {
        "num_hidden_layers": max(1, 3 * layers // 4),
        "hidden_size": heads * _HEAD,
        "intermediate_size": 4 * heads * _HEAD,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 4,
    }
    return ",".join(f"{key}={value}" for key, value in small.items())


def read(folder: Path) -> Callable[[], object]:
    """The work of reading all tensors, each copied into memory and let go."""

    def work() -> None:
        tensors = lazy_weights(folder / _INDEX)
        for name in tensors:
            tensors[name].clone()

    return work


def load(folder: Path) -> Callable[[], object]:
    """The work of reading all tensors, all of them kept, as a program does that goes on with them."""

    def work() -> dict[str, Tensor]:
        tensors = lazy_weights(folder / _INDEX)
        return {name: tensors[name].clone() for name in tensors}

    return work


def cut(folder: Path, like: str) -> Callable[[], object]:
    """The work of cutting."""
    import transformers  # noqa: F401 - its import is no part of the work

    return lambda: make_model(load_source(folder), like, Way(), [])


def written(folder: Path, like: str) -> float:
    """Seconds of cutting and writing a checkpoint, which is removed again."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        return seconds(lambda: write_init(str(folder), like, Path(out), Way()))


def build(folder: Path, like: str) -> Callable[[], object]:
    """The work of building the smaller model, its weights whatever was in memory."""
    from transformers import AutoConfig

    config, kind, _ = changed_config(AutoConfig.from_pretrained(folder), like)
    return lambda: built(kind, config, fresh=False)


def seconds(work: Callable[[], object]) -> float:
    """Of one piece of work."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def spread(values: list[float], unit: str | None = None) -> Figure:
    """The median, and the least and the most."""
    return Figure(value=median(values), low=min(values), high=max(values), unit=unit, n=len(values))


def figures_of(folder: Path, like: str, repeats: int) -> dict[str, Figure]:
    """Seconds, memory, and both beside what they are measured by."""
    read(folder)()  # into the system's memory
    made = make_model(load_source(folder), like, Way(), [])
    student = sum(value.nbytes for value in made.model.state_dict().values())
    share = made.inherited.share
    parameters = sum(parameter.numel() for parameter in made.model.parameters())
    del made
    source = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    pairs = [(seconds(read(folder)), seconds(cut(folder, like))) for _ in range(repeats)]
    return {
        "source_parameters": Figure(value=load_source(folder).parameters),
        "student_parameters": Figure(value=parameters),
        "share_inherited": Figure(value=share),
        "read_seconds": spread([reading for reading, _ in pairs], "s"),
        "cut_seconds": spread([cutting for _, cutting in pairs], "s"),
        "cut_over_read": spread([cutting / reading for reading, cutting in pairs]),
        "load_seconds": spread([seconds(load(folder)) for _ in range(repeats)], "s"),
        "build_seconds": spread([seconds(build(folder, like)) for _ in range(repeats)], "s"),
        "cut_and_write_seconds": spread([written(folder, like) for _ in range(repeats)], "s"),
        **_memory(folder, like, source + student),
    }


def _memory(folder: Path, like: str, both: int) -> dict[str, Figure]:
    peak = peak_bytes(partial(cut, folder, like), _CPU)
    return {"peak_bytes": Figure(value=peak, unit="bytes"), "peak_over_both": Figure(value=peak / both)}


def main() -> None:
    """Make the source, measure, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        make_source(Path(name), layers=arguments.layers, width=arguments.width)
        figures = figures_of(Path(name), half_of(arguments.layers, arguments.width), arguments.repeats)
    finish(
        "init",
        figures,
        command=command_line(__file__, sys.argv[1:]),
        device=_CPU,
        begin=begin,
        folder=arguments.results,
        packages=["transformers", "safetensors"],
    )


if __name__ == "__main__":
    main()
