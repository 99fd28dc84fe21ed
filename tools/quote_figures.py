"""Writes the figures of benchmarks/results/ into the pages that quote them.

Usage: python tools/quote_figures.py

A page quotes a figure as a number followed by a comment that no reader sees: `1.5x <!-- file: figure -->`, where `file`
is a result file's name. What follows an `@` is another field of the figure: `figure@low`. A percent sign multiplies by
100. The number keeps its digits after the point.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUOTE = re.compile(
    r"(?P<number>-?\d+(?:\.\d+)?)(?P<unit> ?%|x?) <!-- (?P<file>[\w.-]+): (?P<figure>[^ @]+)(?:@(?P<field>\w+))? -->"
)


def pages() -> list[Path]:
    """The pages that may quote figures."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])


def quoted(text: str) -> str:
    """A page with the figures that the result files hold.

    Raises:
        KeyError: A result file does not hold a figure that the page quotes.
    """
    return QUOTE.sub(_current, text)


def _current(quote: re.Match[str]) -> str:
    figures = json.loads((ROOT / "benchmarks" / "results" / f"{quote['file']}.json").read_text(encoding="utf-8"))[
        "figures"
    ]
    value = figures[quote["figure"]][quote["field"] or "value"] * (100 if "%" in quote["unit"] else 1)
    digits = len(quote["number"].partition(".")[2])
    return f"{value:.{digits}f}" + quote[0][len(quote["number"]) :]


def main() -> None:
    """Bring all pages up to date."""
    for page in pages():
        before = page.read_text(encoding="utf-8")
        after = quoted(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(f"wrote {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
