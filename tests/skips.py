"""Which tests may be skipped: with `--allowed-skips FILE`, any other skip fails the run.

A line of the file is a test file's path, a colon and the reason, both with `*` for anything; `#` begins a comment.
What is skipped everywhere is checked nowhere, so the lists are short.
"""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

import pytest


def read_allowed(text: str) -> list[str]:
    """The patterns of a list, each `path: reason`."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


class Skips:
    """A plugin that gathers what is skipped, in all processes, and fails the run for what no pattern allows."""

    def __init__(self, allowed: list[str]) -> None:
        self._allowed = allowed
        self._seen: Counter[str] = Counter()

    def note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        """Remember a skip."""
        if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
            path, reason = report.nodeid.partition("::")[0], report.longrepr[2].removeprefix("Skipped: ")
            self._seen[f"{path}: {reason}"] += 1

    pytest_runtest_logreport = note
    pytest_collectreport = note

    def unexpected(self) -> list[str]:
        """What was skipped that may not be."""
        return sorted(skip for skip in self._seen if not any(fnmatchcase(skip, pattern) for pattern in self._allowed))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unexpected() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for skip in self.unexpected():
            terminalreporter.write_line(f"SKIPPED BUT NOT ALLOWED [{self._seen[skip]}] {skip}", red=True)


def add_option(parser: pytest.Parser) -> None:
    """The option `--allowed-skips`."""
    parser.addoption(
        "--allowed-skips", type=Path, metavar="FILE", help="fail where a test is skipped that FILE does not list"
    )


def register(config: pytest.Config) -> None:
    """Watch the skips where the option asks for it, in the process that gathers the reports of all."""
    path: Path | None = config.getoption("allowed_skips")
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Skips(read_allowed(path.read_text(encoding="utf-8"))))
