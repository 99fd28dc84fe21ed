"""The verdict in a sentence: one for every status, and what has to be said beside it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from headstart.records import ArmResult, Estimate, RaceRecord, RunRecord
from headstart.report import quality_sentence, verdict_sentence

NEVER = {"status": "not reached", "speedup": None, "arm_cost": None, "loaded_speedup": None, "break_even": None}
LOSS = Estimate(value=-0.0125, low=-0.014, high=-0.011)

SENTENCES = {
    "faster": (
        {},
        "early is faster: 1.70x (95 % interval 1.50 to 1.90) to the baseline's best, 92.0 % accuracy, in calibrated "
        "seconds.",
    ),
    "slower": (
        {"verdict": "slower", "speedup": Estimate(value=0.8, low=0.7, high=0.9)},
        "early is slower: 0.80x (95 % interval 0.70 to 0.90) to the baseline's best, 92.0 % accuracy, in calibrated "
        "seconds.",
    ),
    "not resolved": (
        {"verdict": "not resolved", "speedup": Estimate(value=1.1, low=0.9, high=1.3)},
        "Not resolved: early measured 1.10x (95 % interval 0.90 to 1.30) to the baseline's best, 92.0 % accuracy, in "
        "calibrated seconds.",
    ),
    "no lower end, since it may never get there": (
        {"verdict": "not resolved", "speedup": Estimate(value=1.1, low=0.0, high=1.3)},
        "Not resolved: early measured 1.10x (95 % interval 1.30 or less) to the baseline's best, 92.0 % accuracy, in "
        "calibrated seconds.",
    ),
    "an interval without ends": (
        {"verdict": "not resolved", "speedup": Estimate(value=1.1, low=0.0)},
        "Not resolved: early measured 1.10x (95 % interval open at both ends) to the baseline's best, 92.0 % accuracy, "
        "in calibrated seconds.",
    ),
    "seeds are missing": (
        {"verdict": "not resolved", "speedup": Estimate(value=1.1, low=0.9, high=1.3), "more_seeds": 4},
        "Not resolved: early measured 1.10x (95 % interval 0.90 to 1.30) to the baseline's best, 92.0 % accuracy, in "
        "calibrated seconds. About 4 more seeds would resolve it, if quality and noise stay as measured.",
    ),
    "one seed": (
        {"verdict": "not resolved", "speedup": Estimate(value=1.4)},
        "Not resolved: early measured 1.40x to the baseline's best, 92.0 % accuracy, in calibrated seconds, but with "
        "one run a budget there is no interval.",
    ),
    "at least": (
        {"status": "at least", "speedup": Estimate(value=6.6, low=6.6)},
        "early is faster: at least 6.60x (95 % interval 6.60 or more) to the baseline's best, 92.0 % accuracy, in "
        "calibrated seconds; it is better than that already at its smallest budget.",
    ),
    "not reached": (
        {**NEVER, "verdict": "slower", "gain": LOSS},
        "early is slower: it never reaches the baseline's best, 92.0 % accuracy, within the budgets raced. At equal "
        "time its gain is -1.25 points (95 % interval -1.40 to -1.10).",
    ),
    "not reached and not resolved": (
        {**NEVER, "verdict": "not resolved", "gain": None},
        "Not resolved: early never reaches the baseline's best, 92.0 % accuracy, within the budgets raced.",
    ),
}


@pytest.mark.parametrize(("changes", "sentence"), SENTENCES.values(), ids=SENTENCES.keys())
def test_every_status_has_its_sentence(
    with_primary: Callable[..., RaceRecord], changes: dict[str, object], sentence: str
) -> None:
    assert verdict_sentence(with_primary(**changes)) == sentence


def test_speedup_to_a_given_quality(race: RaceRecord) -> None:
    told = re.fullmatch(
        r"To 91\.0 % accuracy: early (\d\.\d\d)x \(95 % interval (\d\.\d\d) to (\d\.\d\d)\), in calibrated seconds\.",
        quality_sentence(race, 0.91),
    )
    assert told is not None
    assert float(told[2]) < float(told[1]) < float(told[3])
    assert quality_sentence(race, 0.99).endswith("not known, as the two do not both cross it within the budgets raced.")


def test_a_quality_in_per_cent_is_asked_for_as_a_fraction(race: RaceRecord) -> None:
    assert quality_sentence(race, 92).endswith("no accuracy is above 1; for 92 % give 0.92.")


def test_failed_and_missing_runs_are_told(race: RaceRecord) -> None:
    assert verdict_sentence(race).endswith("in calibrated seconds. 2 of 36 runs failed and are left out.")
    cut_short = race.model_copy(update={"runs": race.runs[:-1], "failures": race.failures[:1]})
    assert verdict_sentence(cut_short).endswith("1 of 36 runs failed and is left out. 2 of 36 runs are still to come.")
    limited = cut_short.model_copy(update={"cut_short": True})
    assert verdict_sentence(limited).endswith("2 of 36 runs are still to come: there was no time for more.")


@pytest.mark.parametrize(
    ("absent", "sentence"),
    [
        ({"early"}, "No verdict: no run of early has finished."),
        ({"baseline"}, "No verdict: no run of baseline has finished."),
        ({"early", "baseline"}, "No verdict: no run of baseline and none of early has finished."),
    ],
)
def test_an_arm_without_data_gives_no_verdict(race: RaceRecord, absent: set[str], sentence: str) -> None:
    result = ArmResult(arm="early", clock="calibrated", status="no data", verdict="not resolved")
    runs = [run for run in race.runs if run.arm not in absent]
    told = verdict_sentence(race.model_copy(update={"results": [result], "runs": runs}))
    assert told.startswith(sentence)


def test_runs_without_comparable_costs_give_no_verdict(race: RaceRecord) -> None:
    result = ArmResult(arm="early", clock="calibrated", status="no data", verdict="not resolved")
    told = verdict_sentence(race.model_copy(update={"results": [result]}))
    assert told.startswith("No verdict: too few runs of baseline and early have calibrated seconds to compare.")


def test_a_race_that_was_not_judged_has_no_verdict(race: RaceRecord) -> None:
    told = verdict_sentence(race.model_copy(update={"results": []}))
    assert told.startswith("No verdict: early has not been judged in calibrated seconds.")


def test_a_metric_that_is_no_accuracy_is_named_before_its_value(with_primary: Callable[..., RaceRecord]) -> None:
    runs = [RunRecord(quality=2.5, seconds=1.0, metric="loss", higher_is_better=False)]
    race = with_primary(target_quality=2.125).model_copy(
        update={"runs": runs, "arms": [], "headline_clock": "calibrated"}
    )
    assert "the baseline's best, loss 2.125, in calibrated seconds" in verdict_sentence(race)


def test_accuracies_given_in_per_cent_are_not_multiplied(with_primary: Callable[..., RaceRecord]) -> None:
    runs = [RunRecord(quality=92.5, seconds=1.0, metric="accuracy")]
    race = with_primary(target_quality=92.25).model_copy(update={"runs": runs, "arms": []})
    assert "the baseline's best, accuracy 92.25, in calibrated seconds" in verdict_sentence(race)
