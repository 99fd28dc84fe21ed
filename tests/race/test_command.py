"""Any program as a raced function."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headstart.errors import RaceError
from headstart.race import command_function, race, run_folder


def python(code: str, *arguments: str) -> str:
    """A command line that runs some Python, quoted, its own braces doubled."""
    return shlex.join([sys.executable, "-S", "-c", code.replace("{", "{{").replace("}", "}}"), *arguments])


WRITE = "import json, sys; open(sys.argv[1], 'w').write(json.dumps({}))"


def test_placeholders_reach_the_program_whole(tmp_path: Path) -> None:
    code = "import sys, json; print(sys.argv[2:]); json.dump(dict(quality=1, seconds=2.5), open(sys.argv[1], 'w'))"
    template = python(code, "{record}", "--arm={arm}", "{budget}", "{seed}", "{{}}", "$HOME;*")
    record = command_function(template, tmp_path)("it's a name; $(x)", 4.0, 3)
    assert (record.quality, record.seconds) == (1.0, 2.5)
    log = run_folder(tmp_path, "it's a name; $(x)", 4, 3) / "output.log"
    assert log.read_text().strip() == repr(["--arm=it's a name; $(x)", "4", "3", "{}", "$HOME;*"])


def test_raced_and_resumed(tmp_path: Path) -> None:
    code = (
        "import sys, json; arm, budget, record = sys.argv[1:]; "
        "json.dump(dict(quality=float(budget) * len(arm), seconds=float(budget), steps={arm: 3}), open(record, 'w'))"
    )
    template = python(code, "{arm}", "{budget}", "{record}")
    options: dict[str, Any] = {
        "arms": ["a", "bb"],
        "budgets": [1],
        "seeds": [0],
        "folder": tmp_path,
        "command": template,
    }
    record = race(command_function(template, tmp_path), **options)
    assert [(run.arm, run.quality, run.steps) for run in record.runs] == [("a", 1.0, {"a": 3}), ("bb", 2.0, {"bb": 3})]
    assert race(command_function("false {record}", tmp_path), **options) == record


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("", "{record} is missing"),
        ("train --arm {arm}", "{record} is missing; pass it to the program"),
        ("train {record} {epochs}", "unknown placeholder {epochs}; there are {arm}, {budget}, {seed}, {record}"),
        ("train {record} {}", "unknown placeholder {}; there are"),
        ("train {record} {arm.x}", "unknown placeholder {arm.x}"),
        ("train {record} {budget:.2f}", "placeholder {budget} takes no format"),
        ("train {record} {", "write braces of its own twice"),
        ("train {record} 'open", "No closing quotation"),
    ],
)
def test_templates_that_cannot_work(tmp_path: Path, template: str, message: str) -> None:
    with pytest.raises(RaceError) as caught:
        command_function(template, tmp_path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("code", "messages"),
    [
        ("print('all is lost'); raise SystemExit(3)", ["ended with exit status 3", "output.log:\nall is lost"]),
        ("raise SystemExit(1)", ["(no output)"]),
        ("import os; os.kill(os.getpid(), 9)", ["was killed by signal 9"]),
        ("pass", ["ended well but wrote no record", '{"quality": 0.91, "seconds": 12.5}', "reported.json"]),
        ("import sys; open(sys.argv[1], 'w').write('{')", ["reported.json: cannot be read as JSON"]),
        (WRITE.format("[1]"), ["is of type list; give a RunRecord, or a mapping"]),
        (WRITE.format("dict(quality=1)"), ["lacks 'seconds', which is required: the time spent training"]),
        (WRITE.format("dict(quality=1, seconds='x')"), ["seconds: Input should be a valid number", "not 'x'"]),
    ],
)
def test_programs_that_go_wrong(tmp_path: Path, code: str, messages: list[str]) -> None:
    with pytest.raises(RaceError) as caught:
        command_function(python(code, "{record}"), tmp_path)("a", 1, 0)
    for message in messages:
        assert message in str(caught.value)


def test_only_the_last_lines_are_shown(tmp_path: Path) -> None:
    code = "print(*range(20000), sep=chr(10)); raise SystemExit(1)"
    with pytest.raises(RaceError) as caught:
        command_function(python(code, "{record}"), tmp_path)("a", 1, 0)
    assert str(caught.value).splitlines()[1:] == [str(number) for number in range(19990, 20000)]


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RaceError, match="'no-such-program' cannot be started"):
        command_function("no-such-program {record}", tmp_path)("a", 1, 0)


def test_a_record_left_by_an_earlier_try_does_not_count(tmp_path: Path) -> None:
    command_function(python(WRITE.format("dict(quality=1, seconds=1)"), "{record}"), tmp_path)("a", 1, 0)
    with pytest.raises(RaceError, match="wrote no record"):
        command_function(python("pass", "{record}"), tmp_path)("a", 1, 0)


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """A shell starts what it puts into the background with interrupts ignored, and Python leaves them so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupt_ends_the_program(tmp_path: Path) -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    log = run_folder(tmp_path, "a", 1, 0) / "output.log"

    def interrupt() -> None:
        while not (log.exists() and log.read_text().endswith("\n")):
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        command_function(python(code, "{record}"), tmp_path)("a", 1, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text()), 0)
