"""The pages say what the repository holds: links lead somewhere, and figures are those of the result files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quote_figures import QUOTE, ROOT, pages, quoted

EACH_PAGE = pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))


@EACH_PAGE
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}, which does not exist"


@EACH_PAGE
def test_quoted_figures_are_those_of_the_result_files(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == quoted(text), "run python tools/quote_figures.py"


def test_a_wrong_figure_is_corrected() -> None:
    right = (ROOT / "README.md").read_text(encoding="utf-8")
    quotes = list(QUOTE.finditer(right))
    assert any(quote["figure"] == "speedup_at_baseline_best" for quote in quotes)
    for quote in quotes:
        wrong = right[: quote.start()] + "-9" + right[quote.start() :]
        assert quoted(wrong) == right
