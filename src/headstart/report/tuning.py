"""What a reader of the verdict has to know of how the arms got their settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from headstart.records import RaceRecord, Trial, Tuning
from headstart.report import figures


class Edge(NamedTuple):
    """A chosen value that is the smallest or the largest of those tried: a better one may lie beyond it."""

    arm: str
    key: str
    value: float
    side: str


def tuning_sentences(record: RaceRecord) -> list[str]:
    """What the tuning cost, and where it may have ended too early; nothing where the arms were not tuned."""
    tuning = record.tuning
    if tuning is None or not tuning.trials:
        return []
    told = [f"{figures.seconds(spent(tuning.trials, 'seconds'))} s"]
    if all(trial.flops is not None for trial in tuning.trials):
        told.append(figures.operations(spent(tuning.trials, "flops")))
    arms = figures.count(len({trial.arm for trial in tuning.trials}), "arm")
    runs = figures.count(len(tuning.trials), "short run")
    sentences = [f"{runs} tuned {arms} before the race: {', '.join(told)}, in none of these figures."]
    for edge in edges(tuning):
        sentences.append(
            f"The best {edge.key} of {edge.arm}, {edge.value:g}, is the {edge.side} that was tried: a "
            f"{'smaller' if edge.side == 'smallest' else 'larger'} one may be better."
        )
    return sentences


def edges(tuning: Tuning) -> list[Edge]:
    """The chosen numbers at the ends of what was tried, arm by arm."""
    found = []
    for arm, values in tuning.chosen.items():
        for key, value in values.items():
            tried = [trial.values[key] for trial in tuning.trials if trial.arm == arm]
            if all(map(_number, [value, *tried])) and len(set(tried)) > 1 and value in (min(tried), max(tried)):
                found.append(Edge(arm, key, value, "smallest" if value == min(tried) else "largest"))
    return found


def spent(trials: Sequence[Trial], name: str) -> float:
    """The `seconds` or `flops` of trials together; of those that are known."""
    return sum(getattr(trial, name) or 0.0 for trial in trials)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
