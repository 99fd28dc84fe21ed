"""The picture of the floors shows the contract that import-linter holds, and nothing else."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

import floors_picture
from floors_picture import PACKAGE, PICTURE, floors, label, picture, purpose


def test_the_picture_is_up_to_date() -> None:
    assert PICTURE.read_text(encoding="utf-8") == picture(), "run python tools/floors_picture.py"


def test_it_names_whatever_lies_in_the_package() -> None:
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    shown = {room for rooms in floors() for room in rooms if not room.startswith("(")}
    assert shown == there - {"__init__", "__main__"}
    texts = [element.text for element in ElementTree.fromstring(picture()).iter("{http://www.w3.org/2000/svg}text")]
    assert {label(room) for room in shown} <= set(texts)


def test_text_stays_in_its_box() -> None:
    boxes = [element.attrib for element in ElementTree.fromstring(picture()) if "rect" in element.tag][1:]
    for box in boxes:
        assert int(box["x"]) + int(box["width"]) <= floors_picture.WIDTH - floors_picture.MARGIN + 1


def test_a_room_says_what_it_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floors_picture, "PACKAGE", tmp_path)
    monkeypatch.setattr(floors_picture, "ROOT", tmp_path)
    (tmp_path / "attic.py").write_text('"""Where `old` things are.\n\nAnd more."""\n')
    (tmp_path / "cellar.py").write_text("")
    assert (label("attic"), purpose("attic")) == ("attic.py", "Where old things are.")
    assert (label("(loft)"), purpose("(loft)")) == ("loft/", "(planned)")
    with pytest.raises(ValueError, match=r"cellar\.py has no docstring"):
        purpose("cellar")
