"""The table of docs/works-with.md, made from the result file."""

from __future__ import annotations

import re
from pathlib import Path

from real_programs.setups import REFUSED, SETUPS
from results_file import Result

PAGE = Path(__file__).resolve().parents[2] / "docs" / "works-with.md"
_TABLE = re.compile(r"(<!-- works-with -->\n).*?(<!-- end -->)", re.DOTALL)
_UNTOLD = ("platform", "git revision")
_HEAD = (
    "| program | lines: changed + added | closed window: identical steps | first losses, from those by hand "
    "| weights after them | resumed: identical steps |\n| --- | --- | --- | --- | --- | --- |\n"
)


def table(result: Result) -> str:
    """What was done with which versions, program by program."""
    rows = [_row(result, setup.name, f"{setup.title} ([lines]({setup.page}))") for setup in SETUPS]
    refused = [
        f"- {case.setup.title}: {case.instead}" for case in REFUSED if f"{case.setup.name}.refused" in result.figures
    ]
    versions = ", ".join(
        f"{name} {version}" for name, version in result.versions.items() if "/" not in name and name not in _UNTOLD
    )
    commits = ", ".join(f"{name} at `{commit[:12]}`" for name, commit in result.versions.items() if "/" in name)
    told = f"Recorded on {result.date[:10]} with {versions}; {commits}.\n"
    return _HEAD + "\n".join(rows) + "\n\nRefused, in the same programs:\n\n" + "\n".join(refused) + "\n\n" + told


def _row(result: Result, name: str, title: str) -> str:
    figures = {key.partition(".")[2]: figure for key, figure in result.figures.items() if key.partition(".")[0] == name}
    closed, resumed = figures["closed_steps_identical"], figures["resumed_steps_identical"]
    again = f"{resumed.value:.0f} of {resumed.n}"
    if (by_hand := figures.get("resumed_weights_difference")) is not None:
        alone = figures["resumed_by_hand_steps_identical"]
        again = f"{again}; by hand {alone.value:.0f} of {alone.n}, from it {_small(by_hand.value)}"
    cells = [
        title,
        f"{figures['lines_changed'].value:.0f} + {figures['lines_added'].value:.0f}",
        f"{closed.value:.0f} of {closed.n}",
        _small(figures["reference_loss_difference"].value),
        _small(figures["reference_weights_difference"].value),
        again,
    ]
    return f"| {' | '.join(cells)} |"


def _small(value: float) -> str:
    return "equal" if value == 0 else f"{value:.0e}"


def written(page: str, result: Result) -> str:
    """The page with the table of a result."""
    return _TABLE.sub(lambda match: match[1] + table(result) + match[2], page)


def write_table(result: Result) -> None:
    """Write it into the page."""
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), result), encoding="utf-8")
