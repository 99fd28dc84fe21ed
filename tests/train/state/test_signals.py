"""SIGTERM: noted during training, obeyed at the next step, and told by the exit code."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headstart.cli import app
from headstart.errors import Preempted
from headstart.train.state.signals import Preemption
from tests.tiny import tiny_recipe, write_recipe


def test_a_signal_is_noted_and_the_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Preemption(True) as preemption:
        assert not preemption.asked()
        signal.raise_signal(signal.SIGTERM)
        assert preemption.asked()
        assert preemption.asked()
    assert signal.getsignal(signal.SIGTERM) is before


def test_unwanted_it_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Preemption(False) as preemption:
        assert signal.getsignal(signal.SIGTERM) is before
        assert not preemption.asked()


def test_outside_the_main_thread_it_leaves_signals_alone() -> None:
    before, found = signal.getsignal(signal.SIGTERM), []

    def enter() -> None:
        with Preemption(True) as preemption:
            found.append((signal.getsignal(signal.SIGTERM), preemption.asked()))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [(before, False)]


def test_the_command_leaves_with_a_code_of_its_own_and_resumes(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", tiny_recipe(tiny_data))
    command = ["train", str(recipe), "--out", str(tmp_path / "run")]

    def ask(_: object, step: int, *__: object) -> None:
        if step == 6:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr("headstart.commands.console.Display.step", ask)
        left = CliRunner().invoke(app, command)
    assert left.exit_code == Preempted.exit_code == 75
    assert "SIGTERM after step 6 of 12; a checkpoint is written, and the same command goes on" in left.stderr
    assert (tmp_path / "run" / "checkpoint-6.pt").exists()
    assert CliRunner().invoke(app, command).exit_code == 0
    assert (tmp_path / "run" / "record.json").exists()
