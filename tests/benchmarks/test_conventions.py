"""The conventions of other libraries: those that can be checked here, what was recorded, and the table of the docs."""

from __future__ import annotations

from dataclasses import replace

import conventions
import pytest
from conventions import CONVENTIONS, TOLERANCE, Convention, error, table

from headstart.records import read_record
from quote_figures import ROOT
from results_file import RESULTS, Result


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda convention: convention.name)
def test_gradients_agree(convention: Convention) -> None:
    if not convention.installed:
        pytest.skip(f"{convention.package} is not installed")
    assert error(convention) < TOLERANCE


def test_a_wrong_factor_is_found() -> None:
    assert error(replace(CONVENTIONS[0], distill="w * 1.01")) > 1e-3
    assert error(replace(CONVENTIONS[0], loss="kl")) > 1e-3


def test_all_were_checked_against_the_libraries() -> None:
    recorded = read_record(Result, RESULTS / "conventions.json")
    assert set(recorded.figures) == {convention.name for convention in CONVENTIONS}
    assert all(figure.value < TOLERANCE for figure in recorded.figures.values())


def test_the_table_in_the_docs_is_that_of_the_program() -> None:
    page = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
    assert table() in page, f"put this there:\n{table()}"


def test_factors_are_those_of_the_values() -> None:
    (alpha,) = [convention for convention in conventions.CONVENTIONS if convention.name == "torchdistill-alpha"]
    assert alpha.factors() == (0.3, 0.7)
