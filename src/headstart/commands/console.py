"""What a person sees in the terminal while a training or a race goes on."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from headstart.commands.forecast import Outlook
from headstart.race import Run
from headstart.records import Failure, RunRecord
from headstart.train.watcher import Watcher

_LINE_EVERY = 15.0  # seconds between two lines where the output is no terminal
_LOOK_EVERY = 1.0  # seconds between two looks at what the runs under way have left


class Display(Watcher):
    """Two bars, one for the race and one for the present training; lines instead where the output is no terminal.

    Args:
        console: Where to draw; stderr, so that stdout stays for results.
        plan: The race's runs, for the estimate of the time left.
        workers: How many of them go on at once.
        folder: The race folder, where runs under way tell how far they are: the estimate then comes with the first
            steps, else with the first run that has ended.
    """

    def __init__(
        self, console: Console, plan: list[Run] | None = None, workers: int = 1, folder: Path | None = None
    ) -> None:
        self._console = console
        self._outlook = Outlook(plan or [], workers, folder)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._looking = threading.Thread(target=self._look, daemon=True)
        self._under_way = 0
        self._last_line = 0.0
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._race = self._progress.add_task("race", total=None, note="", visible=False)
        self._run = self._progress.add_task("", total=None, note="", visible=False)

    def __enter__(self) -> Display:
        self._progress.start()
        self._progress.reset(self._run, description="getting ready: data, models, teachers", visible=True, note="")
        self._say("getting ready: data, models, teachers")
        self._looking.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._looking.join()
        self._progress.stop()

    def training(self, what: str) -> None:
        """A training begins."""
        self._progress.reset(self._run, description=what, total=None, visible=True, note="")
        self._say(f"training {what}")

    def note(self, line: str) -> None:
        """Something that is worth a line."""
        self._console.print(line, markup=False, highlight=False)

    def step(self, step: int, total_steps: int, loss: float) -> None:
        """The present training has got so far."""
        self._progress.update(self._run, completed=step, total=total_steps, note=f"loss {loss:.3f}")
        self._say_sometimes(f"  step {step}/{total_steps}, loss {loss:.3f}")

    def calibration_step(self, done: int, total: int) -> None:
        """The calibration has got so far."""
        self._progress.update(self._run, completed=done, total=total, note="")
        self._say_sometimes(f"  calibration {done}/{total}")

    def probing_step(self, done: int, total: int) -> None:
        """A look at teachers has got so far."""
        what = "looking at the teachers"
        self._progress.update(self._run, description=what, completed=done, total=total, note="")
        self._say_sometimes(f"  {what}: batch {done}/{total}")

    def run_started(self, arm: str, budget: float, seed: int, index: int, total: int) -> None:
        """A run of the race begins."""
        with self._lock:
            self._outlook.started(Run(arm, budget, seed))
        note, what = self._time_left(), f"{arm}, budget {budget:g}, seed {seed}"
        self._progress.update(self._race, completed=index - 1 - self._under_way, total=total, visible=True, note=note)
        self._progress.reset(self._run, description=what, total=None, visible=True, note="")
        self._under_way += 1
        self._say(f"run {index}/{total}: {what}" + (f" ({note})" if note else ""))

    def run_finished(self, record: RunRecord) -> None:
        """A run has ended well."""
        self._ended(Run(record.arm, record.budget, record.seed), record.seconds)
        self._console.print(
            f"[green]done[/] {escape(record.arm)}, budget {record.budget:g}, seed {record.seed}: "
            f"{escape(record.metric)} {record.quality:.4f} in {record.seconds:.1f} s",
            highlight=False,
        )
        for line in record.auto.reasons if record.auto is not None else []:
            self.note(f"  {line}")
        for event in (record.opened, record.stopped):
            if event is not None:
                self.note(f"  {event.told}")

    def run_failed(self, failure: Failure) -> None:
        """A run has failed."""
        self._ended(Run(failure.arm, failure.budget, failure.seed), None)
        what = f"{failure.arm}, budget {failure.budget:g}, seed {failure.seed}"
        self._console.print(f"[red]failed[/] {escape(what)}:", highlight=False)
        self._console.print(failure.message, markup=False, highlight=False)

    def calibrating(self) -> None:
        """The runs are through."""
        self._progress.reset(self._run, description="calibrating step times", total=None, visible=True, note="")
        self._say("calibrating step times")

    def _ended(self, run: Run, training: float | None) -> None:
        with self._lock:
            self._outlook.ended(run, training)
        self._under_way -= 1
        self._progress.advance(self._race)

    def _look(self) -> None:
        """Tell the time left anew, as long as the display is there; in a thread of its own."""
        while not self._closed.wait(_LOOK_EVERY):
            if note := self._time_left():
                self._progress.update(self._race, note=note)
                self._say_sometimes(f"  {note}")

    def _time_left(self) -> str:
        with self._lock:
            seconds = self._outlook.left()
        return "" if seconds is None else f"about {duration(seconds)} left"

    def _say(self, line: str) -> None:
        if not self._console.is_terminal:
            self._last_line = time.monotonic()
            self._console.print(line, markup=False, highlight=False)

    def _say_sometimes(self, line: str) -> None:
        if time.monotonic() - self._last_line > _LINE_EVERY:
            self._say(line)


def duration(seconds: float) -> str:
    """Seconds in words.

    Example:
        >>> duration(12), duration(600), duration(9000)
        ('12 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
