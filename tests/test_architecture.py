"""The page on the architecture leads somewhere: its paths exist, and its names are in the files beside them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from quote_figures import ROOT

PAGE = ROOT / "docs" / "architecture.md"
PLACES = (ROOT / "src" / "headstart", ROOT)
NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def found(path: str) -> Path | None:
    """What a path on the page leads to; a module may go without its suffix."""
    ends = (path, f"{path}.py")
    return next((place / end for place in PLACES for end in ends if (place / end).exists()), None)


def names_in(path: Path) -> set[str]:
    """What a file, or those of a folder, define: functions, classes, their members, constants."""
    files = path.rglob("*.py") if path.is_dir() else [path]
    return {name for file in files if file.suffix == ".py" for name in defined(ast.parse(file.read_text()), "")}


def defined(scope: ast.Module | ast.ClassDef, prefix: str) -> Iterator[str]:
    for node in scope.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from defined(node, f"{prefix}{node.name}.")
        targets = (
            [node.target] if isinstance(node, ast.AnnAssign) else node.targets if isinstance(node, ast.Assign) else []
        )
        yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))


def faults(line: str) -> list[str]:
    """What a line of the page gets wrong."""
    spans = re.findall(r"`([^`]+)`(?! \(planned\))", line)
    paths = [
        span for span in spans if re.fullmatch(r"[\w./-]+", span) and ("/" in span or span.endswith((".py", ".toml")))
    ]
    missing = [path for path in paths if found(path) is None]
    if missing or "(planned)" in line:
        return [f"{path} does not exist" for path in missing]
    there = {name for path in paths if (place := found(path)) is not None for name in names_in(place)}
    names = [span for span in spans if NAME.fullmatch(span) and span not in paths and span not in ("race.json",)]
    return [f"{name} is not in {paths or 'any file that the line names'}" for name in names if name not in there]


@pytest.mark.parametrize("line", [line for line in PAGE.read_text(encoding="utf-8").splitlines() if "`" in line])
def test_a_line_of_the_page_names_what_is_there(line: str) -> None:
    assert not faults(line)


@pytest.mark.parametrize(
    "line",
    [
        "| a teacher drawn | `drawn` | `distill/pool/draw.py` |",
        "| a teacher drawn | `draw` | `distill/pool/drawing.py` |",
        "| a step | `Session.step` | `train/session.py` |",
        "It is in `Session`.",
    ],
)
def test_a_wrong_line_is_found(line: str) -> None:
    assert faults(line)
