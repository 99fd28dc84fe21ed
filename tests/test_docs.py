"""The pages say what the repository holds: links lead somewhere, and figures are those of the result files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quote_figures import QUOTE, ROOT, beside, pages, quoted, quoted_beside

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
    right = (ROOT / "docs" / "defaults.md").read_text(encoding="utf-8")
    quotes = list(QUOTE.finditer(right))
    assert any(quote["figure"] == "speedup_at_baseline_best" for quote in quotes)
    for quote in quotes:
        wrong = right[: quote.start()] + "-9" + right[quote.start() :]
        assert quoted(wrong) == right


@pytest.mark.parametrize(
    "page", [page for page in pages() if beside(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_figures_of_a_page_with_a_file_beside_it_are_those_of_the_result_files(page: Path) -> None:
    sources = page.with_suffix(".figures").read_text(encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    assert (text, sources) == quoted_beside(text, sources), "run python tools/quote_figures.py"


README = (ROOT / "README.md", ROOT / "README.figures")


def test_a_wrong_figure_is_corrected_on_both_sides() -> None:
    text, sources = (path.read_text(encoding="utf-8") for path in README)
    assert quoted_beside(text.replace("1.59x", "9.99x"), sources.replace("1.59x", "9.99x")) == (text, sources)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("1.59x faster", "1.60x faster", "the page has ['1.60x'"),
        ("1.59x faster", "Faster", "the page has ['1.35'"),
        ("# headstart", "# headstart, 2.5x as good", "the page has ['2.5x'"),
        ("Licence", "It takes 0.5 s. Licence", "the page has ['0.5']"),
    ],
)
def test_a_number_without_its_source_is_refused(old: str, new: str, said: str) -> None:
    text, sources = (path.read_text(encoding="utf-8") for path in README)
    assert old in text
    with pytest.raises(ValueError, match=re.escape(said)):
        quoted_beside(text.replace(old, new, 1), sources)


def test_numbers_in_code_need_no_source() -> None:
    text, sources = (path.read_text(encoding="utf-8") for path in README)
    quoted_beside(text + "\n`x = 0.5` [there](docs/v1.5.md)\n```python\ny = 2.5\n```\n", sources)


def test_a_line_that_is_no_source_is_refused() -> None:
    text, sources = (path.read_text(encoding="utf-8") for path in README)
    with pytest.raises(ValueError, match=re.escape("line 1, '1.5x from somewhere'")):
        quoted_beside(text, "1.5x from somewhere\n" + sources)
