"""Draws the floors of the house, docs/images/floors.svg, from the contract in pyproject.toml that `make lint` holds.

Usage: python tools/floors_picture.py

What a floor is for is the first line of its docstring, so that the picture says what the code says.
"""

from __future__ import annotations

import ast
import textwrap
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "headstart"
PICTURE = ROOT / "docs" / "images" / "floors.svg"

WIDTH, MARGIN, GAP, LINE = 900, 20, 10, 15  # pixels
LETTER = 6.3  # pixels that a letter takes on the average, at 12 pixels
INK, SOFT, PAPER, BOX, EDGE = "#1b1f24", "#56606b", "#ffffff", "#f3f6f9", "#9aa7b4"


def floors() -> list[list[str]]:
    """The rooms of each floor, the top one first; a planned one is in parentheses."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = content["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["id"] == "floors")
    return [[room.strip() for room in layer.split("|")] for layer in layers]


def label(room: str) -> str:
    """A room as one finds it in the tree: `train/`, `records.py`."""
    name = room.strip("()")
    return f"{name}.py" if (PACKAGE / f"{name}.py").exists() else f"{name}/"


def purpose(room: str) -> str:
    """What a room is for: the first line of its docstring."""
    path = PACKAGE / label(room)
    path = path if path.suffix else path / "__init__.py"
    if not path.exists():
        return "(planned)"
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not docstring:
        raise ValueError(f"{path.relative_to(ROOT)} has no docstring; say in one line what it is for")
    return docstring.splitlines()[0].replace("`", "")


def picture() -> str:
    """The whole file."""
    top, drawn = MARGIN, []
    for rooms in floors():
        width = (WIDTH - 2 * MARGIN - GAP * (len(rooms) - 1)) / len(rooms)
        texts = [textwrap.wrap(purpose(room), int((width - 20) / LETTER)) for room in rooms]
        height = 30 + LINE * max(map(len, texts))
        for place, (room, lines) in enumerate(zip(rooms, texts, strict=True)):
            drawn += _box(room, lines, MARGIN + place * (width + GAP), top, width, height)
        top += height + GAP
    height = top - GAP + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
            ' font-family="Helvetica, Arial, sans-serif" font-size="12">',
            "<title>The floors of headstart: each imports only from those below it</title>",
            f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
            *drawn,
            "</svg>\n",
        ]
    )


def _box(room: str, lines: list[str], left: float, top: int, width: float, height: int) -> list[str]:
    dashes = "" if not room.startswith("(") else ' stroke-dasharray="5 4"'
    texts = [
        f'<text x="{left + 10:.0f}" y="{top + 36 + LINE * number}" fill="{SOFT}">{escape(line)}</text>'
        for number, line in enumerate(lines)
    ]
    return [
        f'<rect x="{left:.0f}" y="{top}" width="{width:.0f}" height="{height}" rx="4" fill="{BOX}" stroke="{EDGE}"'
        f"{dashes}/>",
        f'<text x="{left + 10:.0f}" y="{top + 19}" fill="{INK}" font-size="14" font-weight="bold">{label(room)}</text>',
        *texts,
    ]


def main() -> None:
    """Draw it."""
    PICTURE.write_text(picture(), encoding="utf-8")
    print(f"wrote {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
