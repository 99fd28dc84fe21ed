"""What is known of a training program: where it is, how it runs in seconds, and which lines headstart adds to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Edit:
    """An exact text of a program, and what takes its place.

    Attributes:
        before: Occurs once in the program.
        after: In it `TEACHER` becomes the teacher's path, and `STOP` the window's end.
    """

    before: str
    after: str


@dataclass(frozen=True)
class Setup:
    """A program with the options that make it run in seconds, offline.

    In options `{data}` is the folder that `prepare` filled, `{init}` the folder of first weights, `{seed}` the seed,
    `{out}` where to write, and `{first}` where a run wrote that another one goes on from.

    Attributes:
        name: Of its figures.
        title: Of its row in the table.
        script: Its path in the folder of programs.
        page: Of the docs, that says which lines to add.
        prepare: Writes data, and the folders `student` and `teacher` of first weights where options name `{init}`.
        options: Of the command.
        lines: What headstart's page says.
        by_hand: The same in plain torch.
        resume: More options, to go on from a run's checkpoint.
        teacher: What a run leaves that the next one's teacher is, in its `{out}`.
        local: What has to change for it to run without the Hub, in every run.
    """

    name: str
    title: str
    script: str
    page: str
    prepare: Callable[[Path], None]
    options: Sequence[str]
    lines: Sequence[Edit]
    by_hand: Sequence[Edit]
    resume: Sequence[str]
    teacher: str = ""
    local: Sequence[Edit] = ()


@dataclass(frozen=True)
class Refused:
    """A set-up that headstart refuses.

    Attributes:
        setup: It; nothing but its lines and its preparation is used.
        says: What the message says.
        instead: What the table says of it.
    """

    setup: Setup
    says: str
    instead: str
