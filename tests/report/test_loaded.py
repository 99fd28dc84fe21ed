"""Teachers whose training is not known on the headline clock: what is shown instead, and the reason."""

from __future__ import annotations

import pytest

from headstart.records import Calibration, RaceRecord, StepTime, TeacherCost
from headstart.report.answers import answers
from headstart.report.figures import NOTHING
from headstart.report.loaded import in_flops, loaded_text, why_unknown
from headstart.report.sentences import primary_result
from tests.report.conftest import make_result

TEACHER = TeacherCost(name="old", seconds=420.0, flops=2.4e14, steps={"wide": 7035})


def taught_by(race: RaceRecord, teacher: TeacherCost, *, flops: bool = True, **calibration: object) -> RaceRecord:
    """The race with another teacher, whose training is not known in calibrated seconds."""
    unknown = {"teacher_cost": None, "loaded_speedup": None, "break_even": None}
    results = [
        make_result("early", "calibrated", **unknown),
        make_result("early", "flops", **({} if flops else unknown)),
    ]
    runs = [run.model_copy(update={"teachers": [teacher] if run.teachers else []}) for run in race.runs]
    assert race.calibration is not None
    timed = race.calibration.model_copy(update=calibration)
    return race.model_copy(update={"results": results, "runs": runs, "calibration": timed})


def cost(race: RaceRecord) -> tuple[str, str]:
    answer = next(answer for answer in answers(race) if answer.question == "What did the teachers cost?")
    return answer.figure, answer.note


def test_flops_stand_in_with_their_name_and_the_reason(race: RaceRecord) -> None:
    race = taught_by(race, TEACHER, left_out={"wide": "it was trained on other data (cifar10)"})
    result = primary_result(race)
    assert result is not None and loaded_text(race, result) == "0.45x (FLOPs)"
    figure, note = cost(race)
    assert figure == "350 TFLOP"
    assert note == (
        "Nothing more if they are at hand. Their training counted in once: 0.45x in FLOPs. Paid back after 4 trainings "
        "in FLOPs. The training of old is not known in calibrated seconds: it was trained on other data (cifar10)."
    )


def test_known_nowhere_is_not_known(race: RaceRecord) -> None:
    race = taught_by(race, TeacherCost(name="old"), flops=False)
    result = primary_result(race)
    assert result is not None and in_flops(race, result) is None and loaded_text(race, result) == NOTHING
    figure, note = cost(race)
    assert figure == "Not known" and note.endswith("No record tells what training old cost.")


def test_what_is_known_is_shown_as_it_is(race: RaceRecord) -> None:
    result = primary_result(race)
    assert result is not None and loaded_text(race, result) == "0.45x"
    assert "FLOPs" not in cost(race)[1]


@pytest.mark.parametrize(
    ("teacher", "reason"),
    [
        (TEACHER, "its kind of step was not timed."),
        (TEACHER.model_copy(update={"steps": {}}), "its record counts no steps."),
        (TEACHER.model_copy(update={"steps": {"plain": 3}}), ""),
    ],
)
def test_the_reason_is_the_first_teachers_that_has_one(race: RaceRecord, teacher: TeacherCost, reason: str) -> None:
    race = taught_by(race, teacher, kinds={"plain": StepTime(seconds=0.1)})
    assert isinstance(race.calibration, Calibration)
    assert why_unknown(race, race.results[0]).endswith(reason)
    assert bool(reason) == bool(why_unknown(race, race.results[0]))
