"""What a raced training hands back, checked."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from headstart.errors import RaceError
from headstart.records import RunRecord

_MEANING = {
    "quality": "the held-out metric at the end of training",
    "seconds": "the time spent training, without start-up, evaluation and checkpoints",
}


def accept(returned: object, source: str) -> RunRecord:
    """Turn what came back from a training into a run record.

    Args:
        returned: A `RunRecord`, or a mapping with at least `quality` and `seconds` and otherwise its fields.
        source: Where it came from, for the message.

    Raises:
        RaceError: It is neither, lacks something, or holds something impossible; names the field.

    Example:
        >>> accept({"quality": 0.91, "seconds": 12.5}, "the function's result").quality
        0.91
    """
    if isinstance(returned, RunRecord):
        record = returned
    elif isinstance(returned, Mapping):
        record = _from_mapping(returned, source)
    else:
        raise RaceError(
            f"{source} is of type {type(returned).__name__}; give a RunRecord, or a mapping with at least "
            "quality and seconds"
        )
    if not record.seconds > 0:
        raise RaceError(f"{source}: seconds is {record.seconds}; give {_MEANING['seconds']}, above 0")
    return record


def check_same_metric(record: RunRecord, other: RunRecord | None) -> None:
    """Refuse a record that cannot be compared with another of the same race.

    Raises:
        RaceError: The metric or its direction differ.
    """
    if other is None or (record.metric, record.higher_is_better) == (other.metric, other.higher_is_better):
        return
    told = [f"{run.metric!r} (higher_is_better={run.higher_is_better})" for run in (record, other)]
    raise RaceError(f"the run measured {told[0]}, earlier runs of the race {told[1]}; measure the same in all runs")


def _from_mapping(values: Mapping[str, object], source: str) -> RunRecord:
    for name, meaning in _MEANING.items():
        if name not in values:
            raise RaceError(f"{source} lacks {name!r}, which is required: {meaning}")
    try:
        return RunRecord.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(RunRecord.model_fields)
            raise RaceError(f"{source}: {where}: a record has no such field; there is {known}") from None
        raise RaceError(f"{source}: {where}: {first['msg']}, not {first['input']!r}") from None
