"""SIGTERM and Ctrl-C: noted during training, obeyed at the next step, told by the exit code; a second ends at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headstart.cli import app
from headstart.errors import Interrupted, Preempted
from headstart.train.state.signals import Requests
from tests.tiny import tiny_recipe, write_recipe

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@pytest.fixture
def outside() -> Iterator[list[int]]:
    """The signals that reach what is around a training."""
    found: list[int] = []
    before = {number: signal.signal(number, lambda got, _: found.append(got)) for number in (2, 15)}
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


@BOTH
def test_a_signal_is_noted_and_the_handler_is_put_back(number: int, outside: list[int]) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Preempted), Requests(True) as requests:
        assert not requests.asked()
        signal.raise_signal(number)
        assert requests.asked() == number
        assert requests.asked() == number
        raise Preempted
    assert signal.getsignal(number) is before
    assert outside == []


@BOTH
def test_one_that_comes_too_late_is_passed_on(number: int, outside: list[int]) -> None:
    with Requests(True):
        signal.raise_signal(number)
        assert outside == []
    assert outside == [number]


@BOTH
def test_a_second_one_ends_the_process_at_once(number: int) -> None:
    code = (
        "import signal, time\n"
        "from headstart import errors\n"
        "from headstart.train.state import signals\n"
        "signals.ONE_REQUEST = 0.0\n"
        "try:\n"
        "    with signals.Requests(True) as requests:\n"
        f"        signal.raise_signal({int(number)})\n"
        "        assert requests.asked()\n"
        "        time.sleep(0.01)\n"
        f"        signal.raise_signal({int(number)})\n"
        "finally:\n"
        "    print('not at once')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (128 + number, "")


def test_the_same_request_sent_to_process_and_group_is_one(outside: list[int]) -> None:
    with Requests(True) as requests:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert requests.asked()


def test_unwanted_it_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Requests(False) as requests:
        assert signal.getsignal(signal.SIGTERM) is before
        assert not requests.asked()


def test_outside_the_main_thread_it_leaves_signals_alone() -> None:
    before, found = signal.getsignal(signal.SIGTERM), []

    def enter() -> None:
        with Requests(True) as requests:
            found.append((signal.getsignal(signal.SIGTERM), requests.asked()))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [(before, 0)]


@pytest.mark.parametrize(
    ("number", "name", "kind"), [(signal.SIGTERM, "SIGTERM", Preempted), (signal.SIGINT, "Ctrl-C", Interrupted)]
)
def test_the_command_leaves_with_a_code_of_its_own_and_resumes(
    number: int, name: str, kind: type[Preempted], tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", tiny_recipe(tiny_data))
    command = ["train", str(recipe), "--out", str(tmp_path / "run")]

    def ask(_: object, step: int, *__: object) -> None:
        if step == 6:
            signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr("headstart.commands.console.Display.step", ask)
        left = CliRunner().invoke(app, command)
    assert left.exit_code == kind.exit_code == {signal.SIGTERM: 75, signal.SIGINT: 130}[signal.Signals(number)]
    assert f"{name} after step 6 of 12; a checkpoint is written, and the same command goes on" in left.stderr
    assert (tmp_path / "run" / "checkpoint-6.pt").exists()
    assert CliRunner().invoke(app, command).exit_code == 0
    assert (tmp_path / "run" / "record.json").exists()
