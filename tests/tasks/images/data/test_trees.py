"""Image folders are read as torchvision's `ImageFolder` reads them, and what cannot be read so is refused by name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.errors import DataError
from headstart.tasks.images.data.find import find
from headstart.tasks.images.data.image_set import load_images

PIXELS = np.zeros((4, 4), np.uint8)
ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))


def write(root: Path, names: Iterable[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS).save(root / name)
    return root


def by_torchvisions_rule(split: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """Classes, and files with labels, as `find_classes` and `make_dataset` of torchvision.datasets.folder have them."""
    classes = sorted(entry.name for entry in os.scandir(split) if entry.is_dir())
    samples = []
    for label, name in enumerate(classes):
        for root, _, files in sorted(os.walk(split / name, followlinks=True)):
            samples += [(os.path.join(root, file), label) for file in sorted(files) if file.lower().endswith(ENDINGS)]
    return classes, samples


NESTED = [
    "train/n02/images/n02_10.JPEG",
    "train/n02/images/n02_9.JPEG",
    "train/n01/images/n01_0.JPEG",
    "train/n01/top.png",
    "train/N03/a-b/1.png",
    "train/N03/a/c/2.tiff",
    "train/N03/a/3.PNG",
    "train/N03/a/images/deeper/still/4.ppm",
    "val/n01/x.png",
    "val/n02/images/y.png",
]


def test_at_any_depth_in_torchvisions_order(tmp_path: Path) -> None:
    root = write(tmp_path / "d", NESTED)
    (root / "train/n01/n01_boxes.txt").write_text("0 0 1 1")
    for split, folder in (("train", "train"), ("validation", "val")):
        rows = find(str(root), split).open()
        classes, samples = by_torchvisions_rule(root / folder)
        names = [rows.classes[label] for label in rows.labels]
        assert [str(path) for path in rows.images] == [path for path, _ in samples]
        assert names == [classes[label] for _, label in samples]
    assert find(str(root), "train").open().classes == ("N03", "n01", "n02")
    found = load_images(str(root))
    assert found.labels.tolist() == [label for _, label in by_torchvisions_rule(root / "train")[1]]


def test_as_torchvision_itself(tmp_path: Path) -> None:
    folder = pytest.importorskip("torchvision.datasets.folder", exc_type=ImportError)
    root = write(tmp_path / "d", NESTED)
    theirs = folder.ImageFolder(str(root / "train"))
    rows = find(str(root), "train").open()
    assert list(rows.classes) == theirs.classes
    ours = [(str(path), label) for path, label in zip(rows.images, rows.labels, strict=True)]
    assert ours == theirs.samples


def test_the_rule_of_this_test_is_torchvisions() -> None:
    folder = pytest.importorskip("torchvision.datasets.folder", exc_type=ImportError)
    assert folder.IMG_EXTENSIONS == ENDINGS


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", ["a.png"])
    root = write(tmp_path / "d", ["train/cat/b.png"])
    (root / "train/dog").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert load_images(str(root)).classes == ("cat", "dog")


def test_hidden_files_and_folders_do_not_count(tmp_path: Path) -> None:
    names = ["train/cat/a.png", "train/cat/._a.png", "train/cat/.x/b.png", "train/.x/c.png", ".x/cat/d.png"]
    assert len(load_images(str(write(tmp_path / "d", names))).labels) == 1


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Validation", "test"])
def test_names_of_the_split_that_judges(name: str, tmp_path: Path) -> None:
    root = write(tmp_path / "d", ["train/cat/a.png", "train/dog/a.png", f"{name}/dog/a.png"])
    assert load_images(str(root), "test").labels.tolist() == [1]


def test_a_folder_that_has_more_than_a_splits_name_comes_second(tmp_path: Path) -> None:
    root = write(tmp_path / "d", ["train/cat/a.png", "train_more/dog/a.png"])
    assert load_images(str(root)).classes == ("cat",)
    write(root, ["training-train/dog/a.png"])
    assert load_images(str(root)).classes == ("cat",)


@pytest.mark.parametrize("names", [("val", "valid"), ("validation-1", "validation-2")])
def test_two_folders_that_are_one_split(names: tuple[str, str], tmp_path: Path) -> None:
    root = write(tmp_path / "d", ["train/cat/a.png", *(f"{name}/cat/a.png" for name in names)])
    with pytest.raises(DataError, match=f"both {names[0]} and {names[1]} are its validation split; keep one"):
        load_images(str(root))


@pytest.mark.parametrize("below", ["", "images/"])
def test_a_folder_without_splits_says_what_to_do(below: str, tmp_path: Path) -> None:
    root = write(tmp_path / "d", [f"{name}/{below}1.png" for name in ("n01", "n02", "ship", "tree", "ufo", "wolf")])
    with pytest.raises(DataError) as caught:
        load_images(str(root))
    message = str(caught.value)
    assert "holds images in folders (n01, n02, ship, tree, ufo and 1 more), but not by split" in message
    assert f"into {root / 'train'}" in message and "data.evaluate: validation" in message


def test_a_split_without_class_folders(tmp_path: Path) -> None:
    root = write(tmp_path / "d", ["train/1.png"])
    with pytest.raises(DataError, match=r"d/train: its images are in no folders.* sort them as train/<class>/<image>"):
        load_images(str(root))


def test_an_empty_split_says_where_it_looked(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for number in range(7):
        (root / f"train/n{number}/images").mkdir(parents=True)
        (root / f"train/n{number}/images/1.gif").touch()
    pattern = (
        r"train: the split is empty: no file in n0, n1, n2, n3, n4 and 2 more, or at any depth below, ends in \.jpg"
    )
    with pytest.raises(DataError, match=pattern):
        load_images(str(root))


def test_a_class_without_images_is_refused_in_training_only(tmp_path: Path) -> None:
    root = write(tmp_path / "d", ["train/cat/a.png", "train/dog/a.png", "test/cat/a.png"])
    (root / "test/dog").mkdir()
    assert load_images(str(root), "test").labels.tolist() == [0]
    (root / "train/bird").mkdir()
    with pytest.raises(DataError, match=r"no image of 1 of the 3 classes: no file in bird, .* ends in \.jpg"):
        load_images(str(root))


def test_classes_that_training_does_not_have(tmp_path: Path) -> None:
    """As Tiny-ImageNet comes: its validation images lie in one folder, and a table has their classes."""
    root = write(tmp_path / "d", [*(f"train/n{number}/images/1.png" for number in range(8)), "val/images/1.png"])
    pattern = r"val/images: .* it has n0, n1, n2, n3, n4 and 3 more\. The folders in a split are the classes: sort"
    with pytest.raises(DataError, match=pattern):
        load_images(str(root), "test")


def test_several_sizes_name_the_setting(tmp_path: Path) -> None:
    root = write(tmp_path / "d", ["train/cat/a.png"])
    Image.fromarray(np.zeros((6, 4), np.uint8)).save(root / "train/cat/b.png")
    with pytest.raises(DataError, match=re.escape("image 0 is 4 x 4 pixels and image 1 is 6 x 4")) as caught:
        load_images(str(root))
    assert "set data.size" in str(caught.value)
