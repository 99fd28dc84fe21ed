"""Which of a teacher's outputs are the student's."""

from __future__ import annotations

from typing import Any

import pytest

from headstart.distill.class_names import class_map
from headstart.errors import TeacherError

OWN = ["cat", "dog", "crane", "owl", "crane"]


@pytest.mark.parametrize(
    ("wanted", "own", "student", "expected"),
    [
        (None, OWN, ["owl", "cat"], [3, 0]),
        (None, ["a", "b"], ["b", "a"], [1, 0]),
        (None, ["a", "b"], ["a", "b"], None),
        (None, None, ["a", "b"], None),
        (None, OWN, None, None),
        ([4, 0], None, ["crane", "cat"], [4, 0]),
        (["owl", 4], OWN, ["hooter", "crane"], [3, 4]),
        (["owl", "cat"], OWN, None, [3, 0]),
    ],
    ids=[
        "some of its own", "another order", "the same", "its names unknown", "student's unknown", "indices",
        "names and indices", "names alone",
    ],
)  # fmt: skip
def test_classes_go_by_name_or_as_told(wanted: Any, own: Any, student: Any, expected: Any) -> None:
    assert class_map(wanted, own, student, name="old") == expected


@pytest.mark.parametrize(
    ("wanted", "own", "student", "message"),
    [
        ([0], OWN, ["a", "b"], "`classes` gives 1 of its classes, but the student has 2; give one for each"),
        (["dgo"], OWN, None, "has no class 'dgo'; did you mean 'dog'"),
        (["submarine"], OWN, None, "has no class 'submarine'; give an index"),
        (["crane"], OWN, None, r"its classes \[2, 4\] are all called 'crane'; give an index instead"),
        (["dog"], None, None, "nothing names its classes, so 'dog' is unknown; give indices instead"),
    ],
)
def test_classes_that_cannot_be_told(wanted: Any, own: Any, student: Any, message: str) -> None:
    with pytest.raises(TeacherError, match=f"teacher 'old'.*{message}"):
        class_map(wanted, own, student, name="old")


def test_capitals_and_punctuation_do_not_matter() -> None:
    own, student = ["NOT_ENTAILMENT", "Entailment"], ["entailment", "not entailment"]
    assert class_map(None, own, student, name="old") == [1, 0]
    assert class_map(None, ["A b", "c"], ["a-b", "C"], name="old") is None
    assert class_map(["entailment"], own, None, name="old") == [1]


def test_names_that_do_not_match_are_told(caplog: pytest.LogCaptureFixture) -> None:
    assert class_map(None, ["cat", "dog"], ["ship", "plane"], name="old") is None
    assert "its classes are 'cat', 'dog' and the student's 'ship', 'plane', whose names do not match" in caplog.text


@pytest.mark.parametrize(
    ("own", "student"),
    [(["cat", "dog", "owl"], ["dog", "cat", "cow"]), (OWN, ["owl", "shoe"]), (OWN, ["owl", "crane"])],
    ids=["one differs", "a stranger", "twice"],
)
def test_names_of_which_some_stand_elsewhere_are_refused(own: list[str], student: list[str]) -> None:
    with pytest.raises(TeacherError, match=r"some are the same, in another order, and some have no match. Say in `cl"):
        class_map(None, own, student, name="old")


def test_numbers_are_no_names(caplog: pytest.LogCaptureFixture) -> None:
    assert class_map(None, ["0", "1"], ["ship", "plane"], name="old") is None
    assert not caplog.text
