"""Money: seconds times the price, marginal and loaded, checked by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headstart.errors import HeadstartError
from headstart.records import RaceRecord
from headstart.report import Price
from headstart.report.answers import answers
from headstart.report.figures import NOTHING
from headstart.report.money import money_table
from headstart.report.page import render_page

# 360 an hour is a tenth a second.
PRICE = Price(360.0, "EUR")


def test_money_is_seconds_times_the_price(race: RaceRecord) -> None:
    table = money_table(race, PRICE)
    assert table.rows[0] == ["early", "39.02 EUR", "22.95 EUR", "16.07 EUR", "63.50 EUR", "-47.43 EUR"]
    assert "calibrated seconds at 360.00 EUR an hour" in table.caption


def test_in_flops_the_raw_seconds_are_priced(race: RaceRecord) -> None:
    table = money_table(race.model_copy(update={"headline_clock": "flops"}), PRICE)
    assert "raw seconds" in table.caption


def test_an_arm_that_never_gets_there_saves_nothing_known(with_primary: Callable[..., RaceRecord]) -> None:
    race = with_primary(status="not reached", speedup=None, arm_cost=None)
    assert money_table(race, PRICE).rows[0] == ["early", "39.02 EUR", NOTHING, NOTHING, "63.50 EUR", NOTHING]
    assert answers(race, PRICE)[-1].figure == "Not known"


@pytest.mark.parametrize(("arm_cost", "figure"), [(229.5, "16.07 EUR saved"), (490.2, "10.00 EUR lost")])
def test_the_first_screen_tells_it(with_primary: Callable[..., RaceRecord], arm_cost: float, figure: str) -> None:
    race = with_primary(arm_cost=arm_cost)
    assert len(answers(race)) == 4
    answer = answers(race, PRICE)[-1]
    assert answer.figure == figure
    assert "instead of 39.02 EUR a training. The teachers' training: 63.50 EUR. At 360.00 EUR an hour." in answer.note


def test_the_page_has_the_table_where_there_is_a_price(race: RaceRecord) -> None:
    assert "In money" in render_page(race, [], [], price=PRICE)
    assert "In money" not in render_page(race, [], [])


@pytest.mark.parametrize("per_hour", [0.0, -1.0, float("nan"), float("inf")])
def test_a_price_that_is_none_is_refused(per_hour: float) -> None:
    with pytest.raises(HeadstartError, match="give what an hour of the machine costs"):
        Price(per_hour)
