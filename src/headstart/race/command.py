"""Any program as a raced function: filled into a command line, run, and its record read."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import string
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from headstart.errors import Preempted, RaceError
from headstart.race.check_record import accept
from headstart.race.run_names import budget_text, run_folder
from headstart.records import RunRecord

_PLACEHOLDERS = ("arm", "budget", "seed", "record")
_GRACE = 10.0  # seconds that a program has to end by itself when the race is interrupted
_LAST_LINES = 10
_LAST_BYTES = 4096


def command_function(template: str, folder: str | os.PathLike[str]) -> Callable[[str, float, int], RunRecord]:
    """Make a function to race out of a command line.

    The command is split into words first and filled in afterwards, so that no name needs quoting, and run without a
    shell in the current folder. Its output goes to `output.log` in the run folder. When it ends with exit status 0 its
    record, JSON with at least `quality` and `seconds`, must lie at the path that was given as `{record}`.

    Args:
        template: A command line with the placeholders `{arm}`, `{budget}`, `{seed}` and `{record}`; the last one is
            required. Braces of its own are doubled: `{{`.
        folder: The race folder.

    Returns:
        A function to give to `race`. It raises `RaceError` where the program cannot be started, ends with another exit
        status (the message shows its last lines), or writes no usable record.

    Raises:
        RaceError: The template is empty, badly quoted, lacks `{record}` or has an unknown placeholder.

    Example:
        >>> command_function("python train.py --steps {steps} --record {record}", "runs/mine")
        Traceback (most recent call last):
        ...
        headstart.errors.RaceError: command: unknown placeholder {steps}; there are {arm}, {budget}, {seed}, {record}
    """
    return _Command(_parsed(template), Path(folder).absolute())


class _Command:
    """See `command_function`."""

    def __init__(self, words: Sequence[str], folder: Path) -> None:
        self._words, self._folder = words, folder
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def __call__(self, arm: str, budget: float, seed: int) -> RunRecord:
        home = run_folder(self._folder, arm, budget, seed)
        home.mkdir(parents=True, exist_ok=True)
        reported, log = home / "reported.json", home / "output.log"
        reported.unlink(missing_ok=True)
        values = {"arm": arm, "budget": budget_text(budget), "seed": str(seed), "record": str(reported)}
        self._execute([word.format_map(values) for word in self._words], log)
        return _read(reported, log)

    def stop(self) -> None:
        """Ask the programs that are under way to end, by SIGTERM."""
        self._stopped = True
        for process in list(self._running):
            process.terminate()

    def _execute(self, command: Sequence[str], log: Path) -> None:
        with log.open("wb") as output:
            try:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
            except OSError as error:
                raise RaceError(f"command: {command[0]!r} cannot be started ({error.strerror or error})") from None
            self._running.add(process)
            try:
                status = process.wait()
            except BaseException:
                _end(process)
                raise
            finally:
                self._running.discard(process)
        if status != 0 and self._stopped:
            raise Preempted(f"command: {shlex.join(command)}: stopped, as the race was")
        if status != 0:
            raise RaceError(f"command: {shlex.join(command)}: {_ending(status)}; the end of {log}:\n{_tail(log)}")


def _parsed(template: str) -> list[str]:
    try:
        words = shlex.split(template)
        fields = [field[1:] for word in words for field in string.Formatter().parse(word) if field[1] is not None]
    except ValueError as error:
        raise RaceError(f"command: {template!r} cannot be read ({error}); write braces of its own twice") from None
    told = ", ".join(f"{{{name}}}" for name in _PLACEHOLDERS)
    for name, form, conversion in fields:
        if name not in _PLACEHOLDERS:
            raise RaceError(f"command: unknown placeholder {{{name}}}; there are {told}")
        if form or conversion:
            raise RaceError(f"command: placeholder {{{name}}} takes no format; write {{{name}}} alone")
    if "record" not in [name for name, _, _ in fields]:
        raise RaceError(
            "command: {record} is missing; pass it to the program as the path to write its record to, "
            'JSON such as {"quality": 0.91, "seconds": 12.5}'
        )
    return words


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
    finally:  # also when an impatient user interrupts the wait
        process.kill()
        process.wait()


def _ending(status: int) -> str:
    if status > 0:
        return f"ended with exit status {status}"
    return f"was killed by signal {-status} ({signal.strsignal(-status) or 'unknown'})"


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LAST_BYTES))
        lines = file.read().decode("utf-8", errors="replace").rstrip().splitlines()
    return "\n".join(lines[-_LAST_LINES:]) or "(no output)"


def _read(path: Path, log: Path) -> RunRecord:
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RaceError(
            f"command: the program ended well but wrote no record; have it write JSON such as "
            f'{{"quality": 0.91, "seconds": 12.5}} to the path given as {{record}}, here {path} (its output: {log})'
        ) from None
    except (OSError, ValueError) as error:
        raise RaceError(f"command: {path}: cannot be read as JSON ({error})") from None
    return accept(written, f"command: the record {path}")
