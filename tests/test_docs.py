"""The pages say what the repository holds: links lead somewhere, and figures are those of the result files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])

# A figure in a page is written as: 1.23 <!-- result-file: figure -->, with as many digits as one likes.
QUOTED = re.compile(r"(-?\d[\d.]*)\s*(%?)x?\s*<!-- ([\w.-]+): ([^>]+?) -->")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}, which does not exist"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_quoted_figures_are_those_of_the_result_files(page: Path) -> None:
    for shown, percent, name, figure in QUOTED.findall(page.read_text(encoding="utf-8")):
        figures = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["figures"]
        base, _, end = figure.partition("@")
        value = figures[base][end or "value"] * (100 if percent else 1)
        digits = len(shown.partition(".")[2])
        assert f"{value:.{digits}f}" == shown, f"{page.name} says {shown}, {name}.json says {figure} = {value}"


def test_the_readme_quotes_a_measured_speedup() -> None:
    quoted = QUOTED.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert any(figure == "speedup_at_baseline_best" for _, _, _, figure in quoted)
