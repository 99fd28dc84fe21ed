"""Rows matched by what they stand for."""

from __future__ import annotations

import pytest

from headstart.teachers.rows import class_rows


@pytest.mark.parametrize(
    ("own", "student", "rows"),
    [
        (["cat", "dog", "owl"], ["cat", "dog", "owl"], [0, 1, 2]),
        (["cat", "dog", "owl"], ["Owl", "newt", "DOG"], [2, -1, 1]),
        (["crane", "crane", "owl"], ["owl", "crane"], [2, -1]),
        (["cat", "dog"], ["newt", "owl"], [-1, -1]),
        (["0", "1"], ["cat", "dog"], None),
        (["cat", "dog"], ["0", "1", "2"], None),
        (None, ["cat"], None),
    ],
)
def test_classes_of_the_same_name(own: list[str] | None, student: list[str], rows: list[int] | None) -> None:
    assert class_rows(own, student) == rows
