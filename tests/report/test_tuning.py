"""What a report tells of how the arms got their settings."""

from __future__ import annotations

import pytest

from headstart.records import RaceRecord, Trial, Tuning
from headstart.report import verdict_sentence
from headstart.report.figures import NOTHING
from headstart.report.page import render_page
from headstart.report.tuning import edges, tuning_sentences
from headstart.report.tuning_table import tuning_table


def trial(arm: str, lr: float, quality: float | None, flops: float | None = 1e12) -> Trial:
    return Trial(arm=arm, values={"train.lr": lr}, seed=9, quality=quality, seconds=50.0, flops=flops)


TUNING = Tuning(
    trials=[
        trial("baseline", 0.1, 0.90),
        trial("baseline", 0.2, 0.91),
        trial("baseline", 0.4, None),
        trial("early", 0.1, 0.92),
        trial("early", 0.2, 0.91),
    ],
    chosen={"baseline": {"train.lr": 0.2}, "early": {"train.lr": 0.1}, "whole": {"train.lr": 0.3}},
    budget=2.0,
    samples=5000,
    metric="accuracy",
)


@pytest.fixture
def tuned(race: RaceRecord) -> RaceRecord:
    return race.model_copy(update={"tuning": TUNING})


def test_each_setting_has_a_row_and_says_what_became_of_it(tuned: RaceRecord) -> None:
    table = tuning_table(tuned)
    assert table.caption.startswith("Short runs (2 epochs) before the race, judged on 5,000 training samples")
    assert table.rows == [
        ["baseline", "train.lr=0.1", "1", "90.00", "50.0", "1.00 TFLOP", NOTHING],
        ["baseline", "train.lr=0.2", "1", "91.00", "50.0", "1.00 TFLOP", "yes"],
        ["baseline", "train.lr=0.4", "1", "diverged", "50.0", "1.00 TFLOP", NOTHING],
        ["early", "train.lr=0.1", "1", "92.00", "50.0", "1.00 TFLOP", "yes; train.lr is the smallest tried"],
        ["early", "train.lr=0.2", "1", "91.00", "50.0", "1.00 TFLOP", NOTHING],
        ["whole", "train.lr=0.3", "0", NOTHING, NOTHING, NOTHING, "given"],
    ]
    assert tuning_table(tuned.model_copy(update={"tuning": None})).rows == []


def test_seeds_are_averaged(tuned: RaceRecord) -> None:
    more = [trial("early", 0.1, quality).model_copy(update={"seed": 10}) for quality in (0.90,)]
    table = tuning_table(
        tuned.model_copy(update={"tuning": TUNING.model_copy(update={"trials": TUNING.trials + more})})
    )
    assert table.rows[3][2:6] == ["2", "91.00", "100", "2.00 TFLOP"]


def test_the_cost_and_the_edge_stand_beside_the_verdict(tuned: RaceRecord) -> None:
    assert tuning_sentences(tuned) == [
        "5 short runs tuned 2 arms before the race: 250 s, 5.00 TFLOP, in none of these figures.",
        "The best train.lr of early, 0.1, is the smallest that was tried: a smaller one may be better.",
    ]
    assert all(sentence in verdict_sentence(tuned) for sentence in tuning_sentences(tuned))
    untold = TUNING.model_copy(update={"trials": [trial("early", 0.1, 0.9, flops=None), trial("early", 0.3, 0.8)]})
    assert "before the race: 100 s, in none" in tuning_sentences(tuned.model_copy(update={"tuning": untold}))[0]
    assert tuning_sentences(tuned.model_copy(update={"tuning": None})) == []


def test_only_numbers_have_edges(tuned: RaceRecord) -> None:
    named = [Trial(arm="early", values={"distill.loss": loss}, seed=9, quality=0.5) for loss in ("kl", "mse")]
    chosen = {"early": {"distill.loss": "kl"}}
    assert edges(Tuning(trials=named, chosen=chosen, budget=1, samples=5)) == []
    assert [edge.side for edge in edges(TUNING)] == ["smallest"]


def test_the_page_shows_the_table_where_arms_were_tuned(tuned: RaceRecord, race: RaceRecord) -> None:
    page = render_page(tuned, [], [])
    assert "How each arm got its own settings" in page and "train.lr is the smallest tried" in page
    assert "How each arm got its own settings" not in render_page(race, [], [])
