"""Checks what the weights of other libraries mean here, against the losses of those libraries themselves.

Usage: python benchmarks/conventions.py [--out benchmarks/results]

Each convention says by which factors a library multiplies the task loss and the distillation loss of headstart. With
them the gradient of the student's logits must be the same on both sides. Libraries that are not installed
are left out (benchmarks/README.md says how to install them).
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

import peer_losses
from headstart import Distiller
from peer_losses import Values
from results_file import RESULTS, Figure, command_line, new_result, write_result

TOLERANCE = 1e-5  # TRL computes in float32 whatever it is given
ROWS, TOKENS, CLASSES = 6, 3, 5  # the rows are 2 sequences of 3 tokens where a library tells one from the other


@dataclass(frozen=True)
class Convention:
    """One setting of one library, and what it means here.

    Attributes:
        name: Of its figures.
        library: As people call it.
        setting: As its users write it.
        loss: The Distiller's `loss`.
        task: The factor of the task loss, in the setting's own names; Python.
        distill: The factor of the distillation loss, likewise.
        theirs: The library's loss, of `(logits, teacher's logits, labels, values)`.
        values: Of the names; T, the temperature, is one of them.
        sequences: Whether it is given logits `[batch, tokens, classes]`.
    """

    name: str
    library: str
    setting: str
    loss: str
    task: str
    distill: str
    theirs: Callable[[Tensor, Tensor, Tensor, Values], Tensor]
    values: Values = field(default_factory=lambda: {"T": 2.0, "w": 0.7})
    sequences: bool = False

    @property
    def package(self) -> str:
        """The module that has to be installed; `composer` stands for a formula of our own."""
        return self.name.partition("-")[0]

    @property
    def installed(self) -> bool:
        """Whether it can be checked here."""
        return self.package == "composer" or importlib.util.find_spec(self.package) is not None

    def factors(self) -> tuple[float, float]:
        """Those of the task loss and of the distillation loss."""
        names = {**self.values, "classes": CLASSES, "tokens": TOKENS}
        task, distill = (float(eval(formula, {"__builtins__": {}}, names)) for formula in (self.task, self.distill))
        return task, distill


_ALPHA = {"T": 2.0, "alpha": 0.3}
_BREWED = {"T": 2.0, "k": 1.2, "h": 0.4}
_PR, _TD, _TB, _MO = "Composer's pull request 1819", "torchdistill", "TextBrewer", "Model Optimizer"
CONVENTIONS = (
    Convention("composer-rows", _PR, "weight w; images", "reverse_kl", "1 - w", "w", peer_losses.composer),
    Convention(
        "composer-tokens",
        _PR,
        "weight w; masked language models",
        "reverse_kl",
        "1 - w",
        "w * tokens",
        peer_losses.composer,
        sequences=True,
    ),
    Convention(
        "torchdistill-alpha",
        _TD,
        "`KDLoss(temperature=T, alpha=alpha)`",
        "kl",
        "alpha",
        "1 - alpha",
        peer_losses.torchdistill,
        values=_ALPHA,
    ),
    Convention(
        "torchdistill-beta",
        _TD,
        "`KDLoss(temperature=T, alpha=alpha, beta=beta)`",
        "kl",
        "alpha",
        "beta",
        peer_losses.torchdistill,
        values={**_ALPHA, "beta": 0.6},
    ),
    Convention(
        "torchdistill-zero",
        _TD,
        "`KDLoss(temperature=T, alpha=0)`",
        "kl",
        "0",
        "1 / T**2",
        peer_losses.torchdistill,
        values={"T": 2.0, "alpha": 0.0},
    ),
    Convention(
        "textbrewer-ce",
        _TB,
        "`DistillationConfig(temperature=T, kd_loss_weight=k, hard_label_weight=h)`",
        "kl",
        "h",
        "k / T**2",
        peer_losses.textbrewer,
        values=_BREWED,
    ),
    Convention(
        "textbrewer-mse",
        _TB,
        'the same with `kd_loss_type="mse"`',
        "mse",
        "h",
        "k / T**2",
        peer_losses.textbrewer_mse,
        values=_BREWED,
    ),
    *(
        Convention(
            f"trl-{loss.replace('_', '-')}",
            "TRL",
            f"`DistillationConfig(temperature=T, beta={beta})`",
            loss,
            "0",
            "1 / T**2",
            peer_losses.trl,
            values={"T": 2.0, "beta": beta},
            sequences=True,
        )
        for beta, loss in ((0.0, "kl"), (0.5, "jsd"), (1.0, "reverse_kl"))
    ),
    Convention(
        "trl-gkd",
        "TRL",
        "`GKDConfig(beta=0.5)`; its loss has T = 1",
        "jsd",
        "0",
        "1",
        peer_losses.trl_gkd,
        values={"T": 1.0},
        sequences=True,
    ),
    Convention(
        "timm-both",
        "timm",
        "`LogitDistillationTask(temperature=T, task_loss_weight=a, distill_loss_weight=b)`",
        "kl",
        "a",
        "b",
        peer_losses.timm,
        values={"T": 2.0, "a": 0.5, "b": 0.8},
    ),
    Convention(
        "timm-task",
        "timm",
        "`LogitDistillationTask(temperature=T, task_loss_weight=a)`",
        "kl",
        "a",
        "1 - a",
        peer_losses.timm,
        values={"T": 2.0, "a": 0.3},
    ),
    Convention(
        "timm-distill",
        "timm",
        "`LogitDistillationTask(temperature=T, distill_loss_weight=b)`; b is 1 by default",
        "kl",
        "1",
        "b",
        peer_losses.timm,
        values={"T": 2.0, "b": 0.8},
    ),
    Convention(
        "modelopt-mean",
        _MO,
        "`LogitsDistillationLoss(temperature=T)`, `StaticLossBalancer(w)`",
        "kl",
        "1 - w",
        "w / classes",
        peer_losses.modelopt,
        sequences=True,
    ),
    Convention(
        "modelopt-batchmean",
        _MO,
        'the same with `reduction="batchmean"` on `[batch, tokens, classes]`',
        "kl",
        "1 - w",
        "w * tokens",
        peer_losses.modelopt_batchmean,
        sequences=True,
    ),
)


def gradients(convention: Convention) -> tuple[Tensor, Tensor]:
    """The gradient of the student's logits: the library's, and ours with the convention's factors."""
    generator = torch.Generator().manual_seed(0)
    shape = (ROWS // TOKENS, TOKENS, CLASSES) if convention.sequences else (ROWS, CLASSES)
    logits, teacher = (2.0 * torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(2))
    labels = torch.randint(CLASSES, shape[:-1], generator=generator)
    logits.requires_grad_()
    task, distill = convention.factors()
    distiller = Distiller(
        peer_losses.Given(teacher),
        total_steps=1,
        stop=1.0,
        loss=convention.loss,
        temperature=convention.values["T"],
        weight=distill / (task + distill),
    )
    ours = (task + distill) * distiller.loss(logits, labels, logits.detach())
    theirs = convention.theirs(logits, teacher, labels, convention.values)
    return torch.autograd.grad(theirs, logits)[0], torch.autograd.grad(ours, logits)[0]


def error(convention: Convention) -> float:
    """The largest difference of the two gradients, relative to the library's largest component."""
    theirs, ours = gradients(convention)
    return float((theirs - ours).abs().max() / theirs.abs().max())


def table() -> str:
    """All conventions as a table in Markdown."""
    head = "| library | its setting | `loss` here | factor of the task loss | factor of the distillation loss |"
    lines = [
        f"| {item.library} | {item.setting} | `{item.loss}` | {_readable(item.task)} | {_readable(item.distill)} |"
        for item in CONVENTIONS
    ]
    return "\n".join([head, "| --- | --- | --- | --- | --- |", *lines])


def _readable(formula: str) -> str:
    return formula.replace("T**2", "T²").replace(" * ", " · ")


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for conventions.json")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Check what is installed, and write the result file.

    Raises:
        ArithmeticError: A convention is wrong.
    """
    options = parse_arguments(arguments)
    begin = time.perf_counter()
    figures = {}
    for convention in CONVENTIONS:
        if not convention.installed:
            print(f"{convention.name:20s} not checked: {convention.package} is not installed")
            continue
        found = error(convention)
        print(f"{convention.name:20s} {found:.1e}")
        if not found < TOLERANCE:
            raise ArithmeticError(f"{convention.name}: the gradients differ by {found}")
        figures[convention.name] = Figure(value=found)
    result = new_result(
        "conventions",
        figures,
        command=command_line(__file__, arguments),
        device=torch.device("cpu"),
        seconds=time.perf_counter() - begin,
        packages=["torchdistill", "textbrewer", "trl", "timm", "nvidia-modelopt"],
    )
    print(write_result(result, options.out))


if __name__ == "__main__":
    main(sys.argv[1:])
