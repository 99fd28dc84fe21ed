"""What keeping freed memory saves a training step on a processor: freed-memory.json.

Usage: python benchmarks/freed_memory.py [--pairs 12] [--steps 40] [--out benchmarks/results]

`headstart train` tells the GNU C library to keep what is freed. What was told cannot be taken back, so each measurement
is a process of its own, with and without in turn (ABBA), of so many steps on one thread: a ResNet-8 on 128 pictures of
28 x 28, and a ModernBERT of 2 layers, 128 wide, on 16 sequences of 128 tokens. `*.step_ratio` is the time of a step
with over that without, `*.cpu_ratio` the same of processor time, the user's and the system's, which other programs
change less. `*.pages_kept` and `*.pages_usual` are the pages that a step touches anew, `*.memory_ratio` is the most
memory occupied. Linux with the GNU C library only. About 20 minutes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.errors import HeadstartError
from headstart.tasks.images.resnet import ResNet
from headstart.train.freed_memory import keep_freed_memory
from results_file import RESULTS, Figure, command_line, finish
from step_times import median_figure

_WARM_UP = 10
Loss = Callable[[], Tensor]
Made = tuple[nn.Module, Loss]


def resnet8() -> Made:
    """A ResNet-8, and its loss on a batch."""
    model = ResNet(8, classes=10).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(128, 3, 28, 28).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (128,))
    return model, lambda: F.cross_entropy(model(images), labels)


def modernbert() -> Made:
    """A small ModernBERT, and its loss at every seventh token."""
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    config = ModernBertConfig(
        vocab_size=8192, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2,
        pad_token_id=0,
    )  # fmt: skip
    model = ModernBertForMaskedLM(config)
    tokens = torch.randint(1, 8192, (16, 128))
    labels = torch.where(torch.arange(128) % 7 == 0, tokens, -100)
    return model, lambda: model(input_ids=tokens, labels=labels).loss


MODELS: dict[str, Callable[[], Made]] = {"resnet8": resnet8, "modernbert": modernbert}


def steps_of(name: str, steps: int, *, kept: bool) -> dict[str, float]:
    """Train for some steps in this process: seconds, processor seconds and new pages of one, bytes occupied at most."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, loss = MODELS[name]()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    if kept and not keep_freed_memory():
        raise HeadstartError(
            "nothing to measure: memory can be kept with the GNU C library alone, without another allocator in "
            "LD_PRELOAD or settings of it in the environment (MALLOC_..., GLIBC_TUNABLES)"
        )

    def step() -> None:
        torch.autograd.backward(loss())
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(_WARM_UP):
        step()
    before, begin = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for _ in range(steps):
        step()
    after, end = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    pages = after.ru_minflt - before.ru_minflt
    return {"step": (end - begin) / steps, "cpu": cpu / steps, "pages": pages / steps, "memory": after.ru_maxrss * 1024}


def _in_a_process(name: str, steps: int, *, kept: bool) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", name, "--steps", str(steps), *(["--kept"] if kept else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HeadstartError(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def figures_of(name: str, pairs: int, steps: int) -> dict[str, Figure]:
    """The figures of one model."""
    found: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    for pair in range(pairs):
        for kept in (True, False) if pair % 2 else (False, True):
            found[kept].append(_in_a_process(name, steps, kept=kept))
    both = list(zip(found[True], found[False], strict=True))
    figures = {
        f"{name}.{key}_ratio": median_figure([kept[key] / usual[key] for kept, usual in both])
        for key in ("step", "cpu", "memory")
    }
    for word, kept in (("kept", True), ("usual", False)):
        figures[f"{name}.pages_{word}"] = Figure(value=median(one["pages"] for one in found[kept]), n=pairs)
    return figures


def main(arguments: Sequence[str]) -> None:
    """Measure, print, write the result file; with --one print one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12, help="of processes, of each model")
    parser.add_argument("--steps", type=int, default=40, help="of each process")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for freed-memory.json")
    parser.add_argument("--one", choices=MODELS, help="measure this one in this process, and print what was found")
    parser.add_argument("--kept", action="store_true", help="with --one: keep freed memory")
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(steps_of(options.one, options.steps, kept=options.kept)))
        return
    begin, figures = time.perf_counter(), dict[str, Figure]()
    for name in MODELS:
        figures |= figures_of(name, options.pairs, options.steps)
    for key, figure in figures.items():
        print(f"{key:28s} {figure.value:.4g} ({figure.low} to {figure.high})")
    finish(
        "freed-memory",
        figures,
        command=command_line(__file__, arguments),
        device=torch.device("cpu"),
        begin=begin,
        folder=options.out,
        packages=["transformers"],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
