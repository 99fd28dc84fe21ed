"""What runs took over from older models, and what those gain when they are simply trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from headstart.records import Arm, InitRecord, RaceRecord, RunRecord
from headstart.report import figures
from headstart.report.figures import NOTHING, QualityScale
from headstart.report.result_tables import Column, Table

_WAYS = {"copy": "copied", "select": "cut", "grow": "grown"}
_MORE = {"zeroed": "new blocks as the identity", "resampled": "positions resampled", "compensated": "compensated"}


def init_table(record: RaceRecord) -> Table:
    """One row for each arm and older model that its runs started from."""
    columns = (
        Column("Arm", "label"),
        Column("Source", "label"),
        Column("How", "text"),
        Column("Inherited"),
        Column("Raw seconds"),
        Column("Kept", "text"),
        Column("To know", "text"),
    )
    rows = [
        _row(arm.name, source, [run for run in runs if run.init is not None and run.init.source.name == source])
        for arm, runs in _starting(record)
        for source in dict.fromkeys(run.init.source.name for run in runs if run.init is not None)
    ]
    caption = (
        "Where first weights come from: the share of the student's parameters that it inherited, how long reading, "
        "scoring and cutting took (a part of the runs' seconds), and which units and layers of the source were kept."
    )
    return Table(caption, columns, rows).without_empty("To know")


def trained_on_sentences(record: RaceRecord) -> list[str]:
    """For each arm that starts from a model of its own shape: what that one had, and what training it on gives.

    Such a start is worth no more than it adds to the older model simply trained on for as long: an arm that copies the
    same source as it is, without teacher. Where no arm does, that is said, and how to add one.
    """
    told = []
    plain = {source: arm for arm, source, run in _same_shape(record) if _as_it_is(run)}
    for arm, source, run in _same_shape(record):
        if plain.get(source) == arm:
            told.append(_itself(record, arm, run))
        else:
            told.append(_beside(record, arm, run, plain.get(source)))
    return told


def ranges(index: Sequence[int]) -> str:
    """Entries in a few characters.

    Example:
        >>> ranges([0, 2, 4, 6]), ranges([0, 1, 2]), ranges([0, 3]), ranges([1, 0, 1, 0]), ranges([0, 1, 3, 4, 5, 7, 9])
        ('0 to 6 by 2', '0 to 2', '0, 3', '1, 0, 1, 0', '7 of 0 to 9')
        >>> ranges([0, -1])
        '0, new'
    """
    steps = {after - before for before, after in pairwise(index)}
    if len(index) > 2 and len(steps) == 1 and min(steps) > 0:
        step = min(steps)
        return f"{index[0]} to {index[-1]}" + (f" by {step}" if step > 1 else "")
    if len(index) <= 6:
        return ", ".join("new" if entry < 0 else str(entry) for entry in index)
    return f"{len(index)} of {min(index)} to {max(index)}"


def _starting(record: RaceRecord) -> Iterator[tuple[Arm, list[RunRecord]]]:
    for arm in record.arms:
        runs = [run for run in record.runs if run.arm == arm.name and run.init is not None]
        if runs:
            yield arm, runs


def _row(arm: str, source: str, runs: list[RunRecord]) -> list[str]:
    inits = [run.init for run in runs if run.init is not None]
    shares = [init.inherited["share"] for init in inits if "share" in init.inherited]
    notes = dict.fromkeys(note for init in inits for note in init.inherited.get("notes", ()))
    return [
        arm,
        source,
        _common([_how(run) for run in runs]),
        f"{100 * fmean(shares):.1f} %" if shares else NOTHING,
        figures.seconds(fmean(init.seconds for init in inits)),
        _common([_kept(init) for init in inits]),
        "; ".join(notes) or NOTHING,
    ]


def _common(texts: list[str]) -> str:
    """What is the same in all runs; where it is not, the first run's."""
    each = list(dict.fromkeys(texts))
    return each[0] if len(each) == 1 else f"{each[0]} (so in one run, otherwise in others)"


def _how(run: RunRecord) -> str:
    """`copied`, `cut`, `grown`, or the last two, and the options that were asked for."""
    kinds, ways = _kinds(run), _ways(run)
    words = [_WAYS.get(way, way) for way in ways] + [word for kind, word in _MORE.items() if kind in kinds]
    asked = run.settings.get("init") or {}
    if asked.get("scores", "spaced") != "spaced" and "select" in ways:
        words.append("the first units" if asked["scores"] == "first" else "units by activation")
    if _mix(asked) != (1, 0):
        words.append("times {:g} plus {:g} times fresh weights".format(*_mix(asked)))
    return ", ".join(words) or NOTHING


def _mix(asked: Mapping[str, Any]) -> tuple[float, float]:
    return asked.get("shrink", 1), asked.get("perturb", 0)


def _ways(run: RunRecord) -> list[str]:
    """As `Inherited.ways`; a record without them says nothing of it."""
    return list(run.init.inherited.get("ways", ())) if run.init is not None else []


def _kinds(run: RunRecord) -> set[str]:
    """What became of the tensors, in single words."""
    tensors = run.init.inherited.get("tensors", ()) if run.init is not None else ()
    return {word for row in tensors for word in row["what"].split(" and ")}


def _kept(init: InitRecord) -> str:
    """The entries of each axis, those with the same ones together."""
    indices: Mapping[str, Sequence[int]] = init.inherited.get("indices", {})
    own = {name.partition("[")[0] for name in indices if "[" in name}
    texts: dict[str, list[str]] = {}
    for name, index in indices.items():
        if name.partition("[")[0] not in own:
            texts.setdefault(ranges(list(index)), []).append(name)
    parts = [f"{', '.join(names)}: {text}" for text, names in texts.items()]
    return "; ".join([*parts, *(f"{name}: in each layer its own" for name in sorted(own))]) or NOTHING


def _same_shape(record: RaceRecord) -> list[tuple[Arm, str, RunRecord]]:
    """Arms whose source has the student's shape, the source, and one of their runs."""
    return [
        (arm, run.init.source.name, run)
        for arm, (run, *_) in _starting(record)
        if run.init is not None and _ways(run) == ["copy"]
    ]


def _as_it_is(run: RunRecord) -> bool:
    """The older model is only trained on: no teacher, nothing mixed in. Where settings are not told, it is not."""
    settings: Mapping[str, Any] = run.settings
    asked = settings.get("init")
    if not asked or settings.get("distill") or run.teacher_flops:
        return False
    return _mix(asked) == (1, 0)


def _itself(record: RaceRecord, arm: Arm, run: RunRecord) -> str:
    ends = _ends(record, arm.name)
    last = max(ends)
    reached = f"after {figures.budget(last, record.budget_unit)} more {_quality(record, ends[last])}"
    return f"{arm.name} is the older model itself, trained on: {_had(record, run)}, {reached}."


def _beside(record: RaceRecord, arm: Arm, run: RunRecord, plain: Arm | None) -> str:
    opening = f"{arm.name} starts from a model of its own shape: {_had(record, run)}"
    assert run.init is not None
    if plain is None:
        name = run.init.source.name
        return (
            f"{opening}. How far that one gets when it is simply trained on for as long was not raced; an arm of "
            f"`set: {{init: {{from: {name}}}, distill: null}}` tells."
        )
    mine, theirs = _ends(record, arm.name), _ends(record, plain.name)
    shared = sorted(set(mine) & set(theirs))
    if not shared:
        return f"{opening}. {plain.name} trains it on as it is, but at other budgets."
    at = shared[-1]
    return (
        f"{opening}; simply trained on for {figures.budget(at, record.budget_unit)} more ({plain.name}) it has "
        f"{_quality(record, theirs[at])}, and {arm.name} has {_quality(record, mine[at])}."
    )


def _had(record: RaceRecord, run: RunRecord) -> str:
    assert run.init is not None
    quality = run.init.source.quality
    if quality is None:
        return f"{run.init.source.name}, whose own quality is not known"
    return f"{run.init.source.name}, which had {_quality(record, quality)}"


def _ends(record: RaceRecord, arm: str) -> dict[float, float]:
    """The mean quality at each budget of an arm."""
    runs = [run for run in record.runs if run.arm == arm]
    budgets = dict.fromkeys(run.budget for run in runs)
    return {budget: fmean(run.quality for run in runs if run.budget == budget) for budget in budgets}


def _quality(record: RaceRecord, value: float) -> str:
    scale = QualityScale.of(record)
    return f"{scale.text(value)} {scale.metric}" if scale.percent else f"{scale.metric} {scale.text(value)}"
