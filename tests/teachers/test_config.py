"""What a recipe says about a teacher of its own."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from headstart.config import Config
from headstart.teachers import TeacherEntry, TeacherOptions


class Section(Config):
    """A recipe's section that lists teachers."""

    teachers: list[TeacherEntry]


WRITTEN = [
    "runs/old",
    {"spec": "timm:resnet18", "size": 160, "dtype": "bf16"},
    {"spec": "w.pt", "model": {"name": "resnet8"}},
]


def test_a_list_of_specs_and_mappings_comes_back_as_it_was_written() -> None:
    section = Section.model_validate({"teachers": WRITTEN})
    assert [entry.spec for entry in section.teachers] == ["runs/old", "timm:resnet18", "w.pt"]
    assert section.teachers[1].size == 160 and section.teachers[0].size is None
    for mode in ("json", "python"):
        dumped = section.model_dump(mode=mode)["teachers"]
        assert dumped[:2] == WRITTEN[:2]
        assert Section.model_validate({"teachers": dumped}) == section


def test_what_is_set_to_its_default_is_not_written() -> None:
    section = Section.model_validate({"teachers": [{"spec": "runs/old", "fold": False}]})
    assert section.model_dump() == {"teachers": ["runs/old"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"spec": ""}, "at least 1 character"),
        ({"size": 3}, "Field required"),
        ({"spec": "a", "siez": 3}, "Extra inputs are not permitted"),
        ({"spec": "a", "size": 0}, "greater than 0"),
        ({"spec": "a", "dtype": "int8"}, "Input should be 'fp32', 'bf16' or 'fp16'"),
        ({"spec": "a", "mean": [0.5]}, "give mean and std together"),
        ({"spec": "a", "classes": [1], "vocabulary": 4}, "give classes or vocabulary"),
    ],
)
def test_what_makes_no_sense_is_refused(content: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TeacherEntry.model_validate(content)


def test_by_default_nothing_is_asked_for() -> None:
    assert all(value in (None, False) for value in TeacherOptions().model_dump().values())
