"""Writes the figures of benchmarks/results/ into the pages that quote them.

Usage: python tools/quote_figures.py

A page quotes a figure as a number followed by a comment that no reader sees: `1.5x <!-- file: figure -->`, where `file`
is a result file's name. What follows an `@` is another field of the figure: `figure@low`. A percent sign multiplies by
100. The number keeps its digits after the point.

A page that is to be read as it stands has a file beside it instead, `README.figures` for README.md: one line for each
number with a decimal point outside of code, in their order, each with its source in the same words, or `-` where it is
no figure of ours. A number more or less in the page is an error, so none can go without its source.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_SOURCE = r"(?P<file>[\w.-]+): (?P<figure>[^ @]+)(?:@(?P<field>\w+))?"
QUOTE = re.compile(rf"(?P<number>-?\d+(?:\.\d+)?)(?P<unit> ?%|x?) <!-- {_SOURCE} -->")
BESIDE = re.compile(rf"(?P<number>-?\d+\.\d+)(?P<unit> ?%|x?)(?: {{2,}})(?:{_SOURCE}|-)")
# A number of the text; code, and where links lead, are matched first and are none.
_NUMBER = re.compile(
    r"```.*?```|`[^`]*`|\]\([^)]*\)|(?P<number>(?<![\w.-])-?\d+\.\d+)(?P<unit> ?%|x?)(?![\w.]*\w)", re.DOTALL
)


def pages() -> list[Path]:
    """The pages that may quote figures."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])


def quoted(text: str) -> str:
    """A page with the figures that the result files hold.

    Raises:
        KeyError: A result file does not hold a figure that the page quotes.
    """
    return QUOTE.sub(lambda quote: _current(quote) + quote[0][len(quote["number"]) :], text)


def quoted_beside(text: str, sources: str) -> tuple[str, str]:
    """A page and the file of its sources, both with the figures that the result files hold.

    Raises:
        ValueError: A line is no source, or the numbers of the page are not those of the file, in their order.
        KeyError: As `quoted`.
    """
    lines = sources.splitlines()
    numbers = [match for match in _NUMBER.finditer(text) if match["number"]]
    quotes = list(_quotes(lines))
    told, listed = [number[0] for number in numbers], [quote["number"] + quote["unit"] for _, quote in quotes]
    if told != listed:
        other = (i for i, pair in enumerate(zip(told, listed, strict=False)) if pair[0] != pair[1])
        place = next(other, min(len(told), len(listed)))
        raise ValueError(f"the page has {told[place:][:3]} where its file of figures has {listed[place:][:3]}")
    for number, (line, quote) in reversed(list(zip(numbers, quotes, strict=True))):
        if quote["file"]:
            value = _current(quote)
            text = text[: number.start()] + value + text[number.end("number") :]
            lines[line] = value + lines[line][len(quote["number"]) :]
    return text, "\n".join(lines) + "\n"


def beside(page: Path) -> Path | None:
    """The file with the sources of a page's figures, where it has one."""
    path = page.with_suffix(".figures")
    return path if path.exists() else None


def _quotes(lines: list[str]) -> Iterator[tuple[int, re.Match[str]]]:
    for index, line in enumerate(lines):
        if line and not line.startswith("#"):
            quote = BESIDE.fullmatch(line)
            if quote is None:
                raise ValueError(f"line {index + 1}, {line!r}: write NUMBER, two blanks, FILE: FIGURE (or -)")
            yield index, quote


def _current(quote: re.Match[str]) -> str:
    figures = json.loads((ROOT / "benchmarks" / "results" / f"{quote['file']}.json").read_text(encoding="utf-8"))[
        "figures"
    ]
    value = figures[quote["figure"]][quote["field"] or "value"] * (100 if "%" in quote["unit"] else 1)
    digits = len(quote["number"].partition(".")[2])
    return f"{value:.{digits}f}"


def main() -> None:
    """Bring all pages up to date."""
    for page in pages():
        before = {path: path.read_text(encoding="utf-8") for path in (page, beside(page)) if path is not None}
        after = {page: quoted(before[page])}
        if path := beside(page):
            try:
                after[page], after[path] = quoted_beside(after[page], before[path])
            except ValueError as error:
                sys.exit(f"{page.relative_to(ROOT)}: {error}")
        for path, text in after.items():
            if text != before[path]:
                path.write_text(text, encoding="utf-8")
                print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
