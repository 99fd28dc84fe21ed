"""What a check found."""

from __future__ import annotations

from typing import Literal

from headstart.records import Record

Status = Literal["pass", "warn", "fail"]


class Check(Record):
    """One finding of the doctor.

    Attributes:
        name: What was tested.
        status: `pass`; `warn`: look at it; `fail`: training with it would be in vain, or break.
        finding: What was found, with its numbers.
        advice: What to do; empty where the check passes.
        teacher: The teacher's name; empty for what concerns all of them.
    """

    name: str
    status: Status
    finding: str
    advice: str = ""
    teacher: str = ""

    def about(self, teacher: str) -> Check:
        """The same check with the teacher's name in it."""
        return self.model_copy(update={"teacher": teacher})

    def of_head(self, name: str) -> Check:
        """The same check with the head's name before its finding; as it is where there is only one head."""
        return self.model_copy(update={"finding": f"{name}: {self.finding}"}) if name else self


def passed(name: str, finding: str) -> Check:
    """A check that passes.

    Example:
        >>> passed("memory", "2.0 GB of 8.0").status
        'pass'
    """
    return Check(name=name, status="pass", finding=finding)
