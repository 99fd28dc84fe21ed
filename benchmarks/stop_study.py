"""How often an automatic stop comes while the teacher still helps, and how often it does not come: stop-study.json.

Usage: python benchmarks/stop_study.py [--trainings 40] [--series 1000] [--out benchmarks/results]

Two simulations whose truth is known. Trainings (stop_streams.py): softmax regressions with good, middling, poor and
useless teachers, over learning rates, noise of the labels, batch sizes and schedules. A stop is false where neither
rule's condition has been true before, in expectation; it is missed where one has been true from 70 % of the training on
without a stop. Series: the sequential test alone, on noise at its very bound, autocorrelated, and drifting towards it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from scipy import stats

from headstart.distill.stopping.judge import BLOCKS, ERROR, FLOOR, SHARE, Block, Judge
from headstart.distill.stopping.sequential import SunkBelow
from results_file import RESULTS, Figure, command_line, finish
from stop_streams import Setting, Streams, simulate

TEACHERS: dict[str, dict[str, Any]] = {
    "larger": {"error": 0.0, "seen": 10},  # than the student can be
    "perfect": {"error": 0.0},
    "middling": {"error": 0.5},
    "poor": {"error": 1.5},
    "useless": {"error": 30.0},
    "pool": {"error": 0.5, "pool": 4},
}
CHANGES: dict[str, dict[str, Any]] = {
    "slow": {"lr": 0.02},
    "usual": {"lr": 0.1},
    "fast": {"lr": 0.5},
    "noisy-labels": {"lr": 0.1, "spread": 4.0},
    "small-batch": {"lr": 0.1, "batch": 8},
    "constant-lr": {"lr": 0.05, "schedule": "constant"},
}
SETTINGS = {
    f"{teacher}.{change}": Setting(**options, **others)
    for teacher, options in TEACHERS.items()
    for change, others in CHANGES.items()
}
WARMUP = 0.05  # fraction of training in which nothing is decided: less than a run's, so that early stops are tested
LATE = 0.7  # fraction of training: who has not stopped by the end, with a reason since then, has missed it
FIRST = 10  # blocks that tell where the cosine began


@dataclass(frozen=True)
class Outcome:
    """Of one training: when it stopped, and when the first reason was true; None: never."""

    stop: int | None
    due: int | None

    @property
    def false(self) -> bool:
        """Whether the teacher still helped."""
        return self.stop is not None and (self.due is None or self.stop < self.due)

    @property
    def missed(self) -> bool:
        """Whether there was a reason for long."""
        return self.stop is None and self.due is not None and self.due < LATE * BLOCKS


def outcomes(streams: Streams, *, warmup: float) -> list[Outcome]:
    """What a judge makes of each training."""
    return [
        Outcome(_stop(measured, warmup), _due(behind, cosine))
        for measured, behind, cosine in zip(
            streams.measured.tolist(), streams.behind.numpy(), streams.cosine.numpy(), strict=True
        )
    ]


def _stop(measured: Sequence[Sequence[float]], warmup: float) -> int | None:
    judge = Judge()
    for number, sums in enumerate(measured):
        block = Block.of_sums(sums)
        assert block is not None
        if judge.add(block, counts=number >= warmup * BLOCKS) is not None:
            return number
    return None


def _due(behind: np.ndarray, cosine: np.ndarray) -> int | None:
    bound = max(FLOOR, SHARE * float(cosine[:FIRST].mean()))
    true = np.flatnonzero((behind < 0.0) | (cosine < bound))
    return int(true[0]) if len(true) else None


def training_figures(trainings: int) -> dict[str, Figure]:
    """Rates over all settings, the worst of them, and each one's."""
    figures: dict[str, Figure] = {}
    every: list[Outcome] = []
    for number, (name, setting) in enumerate(SETTINGS.items()):
        found = outcomes(simulate(setting, trainings, number), warmup=WARMUP)
        every += found
        figures |= _rates(name, found)
        print(f"{name:24s} {_told(found)}", flush=True)
    worst = max((figures[f"false_stop_rate.{name}"] for name in SETTINGS), key=lambda figure: figure.value)
    return {**_rates("all", every), "worst_false_stop_rate": worst, **figures}


def _rates(name: str, found: Sequence[Outcome]) -> dict[str, Figure]:
    delays = [one.stop - max(one.due, WARMUP * BLOCKS) for one in found if one.stop is not None and one.due is not None]
    rates = {
        f"false_stop_rate.{name}": _share([one.false for one in found]),
        f"missed_stop_rate.{name}": _share([one.missed for one in found]),
        f"stopped.{name}": _share([one.stop is not None for one in found]),
    }
    if delays:
        late = median(delays) / BLOCKS
        rates[f"median_delay.{name}"] = Figure(value=late, unit="fraction of training", n=len(delays))
    return rates


def _told(found: Sequence[Outcome]) -> str:
    stops = [one.stop / BLOCKS for one in found if one.stop is not None]
    false, missed = (sum(getattr(one, kind) for one in found) for kind in ("false", "missed"))
    at = f"at {median(stops):.0%}" if stops else ""
    return f"{len(stops):3d} of {len(found)} stopped {at}, {false} too early, {missed} missed"


def series_figures(count: int) -> dict[str, Figure]:
    """False alarms of the test alone, where the mean is never below the bound."""
    figures = {}
    fall = 8.0 * np.exp(-np.arange(BLOCKS) / 60)
    for number, (name, correlation, trend) in enumerate(
        [
            *((f"at-bound.correlation-{r:g}", r, 0.0 * fall) for r in (0.0, 0.3, 0.6)),
            *((f"falling-to-bound.correlation-{r:g}", r, fall) for r in (0.0, 0.3, 0.6)),
        ]
    ):
        noise = np.random.default_rng(number)
        alarms = [_alarms(trend + _noise(noise, correlation)) for _ in range(count)]
        figures[f"false_alarm_rate.{name}"] = _share(alarms)
        print(f"{name:36s} {sum(alarms)} of {count}", flush=True)
    return figures


def _noise(noise: np.random.Generator, correlation: float) -> np.ndarray:
    values = noise.normal(size=BLOCKS)
    for place in range(1, BLOCKS):
        values[place] = correlation * values[place - 1] + (1.0 - correlation**2) ** 0.5 * values[place]
    return values


def _alarms(values: np.ndarray) -> bool:
    test = SunkBelow(0.0, error=ERROR, looks=BLOCKS)
    return any(test.add(float(value), counts=place >= 20) for place, value in enumerate(values))


def _share(flags: Sequence[bool]) -> Figure:
    """A rate, with Wilson's 95 % interval of the simulation's own error."""
    ends = stats.binomtest(sum(flags), len(flags)).proportion_ci(method="wilson")
    return Figure(value=sum(flags) / len(flags), low=float(ends.low), high=float(ends.high), n=len(flags))


def main(arguments: Sequence[str]) -> None:
    """Simulate, print, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainings", type=int, default=40, help="of each setting")
    parser.add_argument("--series", type=int, default=1000, help="of each kind")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for stop-study.json")
    options = parser.parse_args(arguments)
    begin = time.perf_counter()
    figures = {**training_figures(options.trainings), **series_figures(options.series)}
    finish(
        "stop-study",
        figures,
        command=command_line(__file__, arguments),
        device=torch.device("cpu"),
        begin=begin,
        folder=options.out,
        packages=["scipy"],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
