"""Loading images: where they are looked for, how they are decoded, what is refused, what is cached."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from headstart.errors import DataError
from headstart.tasks.images.data import decode
from headstart.tasks.images.data.image_set import load_images

CLASSES = ("cat", "dog")
GREY = np.arange(30, dtype=np.uint8).reshape(5, 6)
COLOUR = np.arange(90, dtype=np.uint8).reshape(5, 6, 3)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def encode(array: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def write_parquet(
    path: Path, images: Sequence[bytes | None], labels: Sequence[int | None], **more: Sequence[Any]
) -> None:
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    values: Mapping[str, Any] = {
        "image": [None if image is None else {"bytes": image, "path": None} for image in images],
        "label": labels,
        **more,
    }
    if "other" in more:
        features["other"] = datasets.ClassLabel(names=["x", "y", "z"])
    table = datasets.Dataset.from_dict(values, features=datasets.Features(features))
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(str(path))


def write_images(root: Path, images: Mapping[str, np.ndarray]) -> None:
    for name, array in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(root / name)


def test_parquet_gives_pixels_labels_and_classes(tmp_path: Path) -> None:
    write_parquet(tmp_path / "d" / "train.parquet", [encode(GREY), encode(255 - GREY)], [1, 0])
    found = load_images(str(tmp_path / "d"))
    assert found.images.dtype == torch.uint8
    assert found.images[:, 0].tolist() == [GREY.tolist(), (255 - GREY).tolist()]
    assert found.labels.tolist() == [1, 0]
    assert found.labels.dtype == torch.int64
    assert found.classes == CLASSES
    assert str(tmp_path / "d" / "train.parquet") in found.origin


def test_shards_of_a_split_are_read_in_order(tmp_path: Path) -> None:
    for shard in range(3):
        write_parquet(tmp_path / f"train-0000{shard}-of-00003.parquet", [encode(GREY + shard)], [shard % 2])
    found = load_images(str(tmp_path), "train")
    assert found.images[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert "train-00000-of-00003.parquet and 2 more" in found.origin


def test_colour_has_three_channels_in_the_right_place(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [encode(COLOUR)], [0])
    found = load_images(str(tmp_path))
    assert found.images.shape == (1, 3, 5, 6)
    assert found.images[0, 2].tolist() == COLOUR[..., 2].tolist()


def test_grey_images_of_a_mixed_set_become_rgb(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [encode(GREY), encode(COLOUR)], [0, 1])
    found = load_images(str(tmp_path))
    assert found.images[0].tolist() == [GREY.tolist()] * 3
    assert found.images[1].tolist() == COLOUR.transpose(2, 0, 1).tolist()


def test_transparency_is_dropped(tmp_path: Path) -> None:
    with_alpha = np.concatenate([COLOUR, np.full((5, 6, 1), 7, np.uint8)], axis=2)
    write_parquet(tmp_path / "train.parquet", [encode(with_alpha)], [0])
    assert load_images(str(tmp_path)).images[0].tolist() == COLOUR.transpose(2, 0, 1).tolist()


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "PNG", exif=exif)
    write_parquet(tmp_path / "train.parquet", [buffer.getvalue()], [0])
    assert load_images(str(tmp_path)).images[0, 0].tolist() == np.rot90(GREY, -1).tolist()


def test_image_folder(tmp_path: Path) -> None:
    write_images(tmp_path, {"train/dog/a.png": GREY + 1, "train/cat/b.png": GREY, "train/.hidden/c.png": GREY})
    write_images(tmp_path, {"val/dog/c.png": GREY})
    train = load_images(str(tmp_path), "train")
    assert (train.classes, train.labels.tolist()) == (CLASSES, [0, 1])
    assert train.images[:, 0, 0, 0].tolist() == [0, 1]
    # The validation split holds dogs only: they keep the index they have in training.
    assert load_images(str(tmp_path), "validation").labels.tolist() == [1]


def test_image_folder_with_a_class_unknown_to_training(tmp_path: Path) -> None:
    write_images(tmp_path, {"train/cat/a.png": GREY, "test/bird/b.png": GREY})
    with pytest.raises(DataError, match=r"test/bird: the training split has no class of that name; it has cat"):
        load_images(str(tmp_path), "test")


def test_image_folder_has_no_columns(tmp_path: Path) -> None:
    write_images(tmp_path, {"train/cat/a.png": GREY})
    with pytest.raises(DataError, match="has no columns"):
        load_images(str(tmp_path), image_column="image")


def test_validation_stands_in_for_test_and_says_so(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [encode(GREY)], [0])
    write_parquet(tmp_path / "validation.parquet", [encode(GREY)], [1])
    found = load_images(str(tmp_path), "test")
    assert found.labels.tolist() == [1]
    assert "there is no test split" in found.origin
    write_parquet(tmp_path / "test.parquet", [encode(GREY)], [0])
    found = load_images(str(tmp_path), "test")
    assert found.labels.tolist() == [0]
    assert "there is no test split" not in found.origin


def test_missing_split_names_those_there(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [encode(GREY)], [0])
    with pytest.raises(DataError, match=r"has no split 'test'; it has train"):
        load_images(str(tmp_path), "test")


def test_order_of_places(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADSTART_DATA", "shared")
    write_parquet(own_cache / "data" / "pets" / "train.parquet", [encode(GREY)], [0])
    assert load_images("pets").images[0, 0, 0, 0] == 0
    write_parquet(Path("shared/pets/train.parquet"), [encode(GREY + 1)], [0])
    assert load_images("pets").images[0, 0, 0, 0] == 1
    write_parquet(Path("pets/train.parquet"), [encode(GREY + 2)], [0])
    assert load_images("pets").images[0, 0, 0, 0] == 2


def test_origin_left_by_a_tool_is_shown(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [encode(GREY)], [0])
    (tmp_path / "origin.txt").write_text("a parcel\n")
    assert load_images(str(tmp_path)).origin == f"{tmp_path / 'train.parquet'} (a parcel)"


def test_missing_data_without_network_names_every_place(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_DATA", "/nowhere")
    with pytest.raises(DataError) as caught:
        load_images("fashion-mnist")
    message = str(caught.value)
    for part in (
        "no data set 'fashion-mnist' here",
        "as a path: there is no fashion-mnist",
        "in $HEADSTART_DATA: there is no /nowhere/fashion-mnist",
        f"in the cache: there is no {own_cache / 'data' / 'fashion-mnist'}",
        "the Hugging Face Hub, zalando-datasets/fashion_mnist: ",
        "tools/fashion_mnist.py",
    ):
        assert part in message


def test_missing_data_of_a_name_the_hub_does_not_have() -> None:
    with pytest.raises(DataError, match=r"(?s)HEADSTART_DATA: not set.*not asked.*give the path of a folder"):
        load_images("pets")


def test_hub_data_set_is_loaded_by_its_full_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "validation.parquet", [encode(GREY)], [1])
    on_hub = datasets.load_dataset(
        "parquet", data_files={"validation": str(tmp_path / "validation.parquet")}, cache_dir=str(tmp_path / "hub")
    )
    asked = []

    def load(name: str) -> Any:
        asked.append(name)
        return on_hub

    monkeypatch.setattr(datasets, "load_dataset", load)
    for _ in range(2):  # the second time from the cache
        found = load_images("cifar10", "test")
        assert found.images[0, 0].tolist() == GREY.tolist()
        assert found.labels.tolist() == [1]
        assert found.origin.startswith("Hugging Face Hub, uoft-cs/cifar10, validation (the validation split")
    assert asked == ["uoft-cs/cifar10"] * 2


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ([], [], "the split is empty"),
        ([encode(GREY), b"\x89PNG no more"], [0, 1], r"image 1 cannot be decoded"),
        ([encode(COLOUR), encode(COLOUR)[:-40]], [0, 1], r"image 1 cannot be decoded"),
        ([encode(GREY), None], [0, 1], r"image 1 is missing"),
        (
            [encode(GREY), encode(GREY.T.copy())],
            [0, 1],
            r"image 0 is 5 x 6 pixels and image 1 is 6 x 5.*set data\.size",
        ),
        ([encode(GREY.astype(np.uint16) * 256)], [0], r"image 0 has more than 8 bits"),
        ([encode(GREY), encode(GREY)], [1, -1], r"row 1 has the label -1, but there are 2 classes, 0 to 1"),
        ([encode(GREY)], [None], r"row 0 has the label -1"),
    ],
)
def test_refused_rows(tmp_path: Path, images: list[bytes | None], labels: list[int | None], message: str) -> None:
    write_parquet(tmp_path / "train.parquet", images, labels)
    with pytest.raises(DataError, match=message) as caught:
        load_images(str(tmp_path))
    assert str(tmp_path / "train.parquet") in str(caught.value)


def test_corrupt_file_of_an_image_folder_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, {"train/cat/a.png": GREY})
    (tmp_path / "train/cat/b.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"train/cat/b\.jpg cannot be decoded"):
        load_images(str(tmp_path))


@pytest.mark.parametrize("name", ["file", "folder"])
def test_paths_that_hold_no_data_set(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=r"train\*\.parquet, or <split>/<class>/<image>"):
        load_images(str(tmp_path / name))


def test_corrupt_parquet(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match=r"train\.parquet: cannot be read as parquet"):
        load_images(str(tmp_path))


def test_columns_are_chosen_by_type_or_by_name(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [encode(GREY)], [1], other=[2])
    with pytest.raises(DataError, match=r"2 columns of type ClassLabel among .*; name one with label_column"):
        load_images(str(tmp_path))
    found = load_images(str(tmp_path), label_column="other")
    assert (found.classes, found.labels.tolist()) == (("x", "y", "z"), [2])
    with pytest.raises(DataError, match=r"'picture' is no column of type Image; the columns are image \(Image\)"):
        load_images(str(tmp_path), image_column="picture", label_column="label")


def test_plain_numbers_are_no_class_labels(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"image": [1], "label": [0]}).to_parquet(str(tmp_path / "train.parquet"))
    with pytest.raises(DataError, match=r"0 columns of type Image among image \(Value\).*cast the column to that type"):
        load_images(str(tmp_path))


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(decode, "_decode_one", refuse)


def test_second_load_comes_from_the_cache(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "train.parquet", [encode(COLOUR)], [1])
    first = load_images(str(tmp_path))
    forbid_decoding(monkeypatch)
    second = load_images(str(tmp_path))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels, second.labels)
    assert (first.classes, first.origin) == (second.classes, second.origin)
    assert len(list((own_cache / "decoded").iterdir())) == 1


def test_changed_file_is_decoded_again(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    write_parquet(path, [encode(GREY)], [0])
    load_images(str(tmp_path))
    before = path.stat()
    write_parquet(path, [encode(GREY[::-1].copy())], [0])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert load_images(str(tmp_path)).images[0, 0].tolist() == GREY[::-1].tolist()


@pytest.mark.parametrize("keep", [0, 9, -1])
def test_corrupt_cache_is_made_again(tmp_path: Path, own_cache: Path, keep: int) -> None:
    write_parquet(tmp_path / "train.parquet", [encode(GREY)], [0])
    load_images(str(tmp_path))
    (kept,) = (own_cache / "decoded").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:keep])
    assert load_images(str(tmp_path)).images[0, 0].tolist() == GREY.tolist()
    assert kept.read_bytes() == whole


def test_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "file"))
    write_parquet(tmp_path / "d" / "train.parquet", [encode(GREY)], [0])
    assert len(load_images(str(tmp_path / "d")).images) == 1
    assert "will be decoded again next time" in caplog.text


def test_import_is_light() -> None:
    heavy = "{'datasets', 'PIL', 'pyarrow'}"
    code = f"import sys, headstart.tasks.images.data; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_real_cifar10_rows(tmp_path: Path, research_data: Path) -> None:
    from pyarrow import parquet

    table = parquet.read_table(research_data / "cifar10-jpeg75" / "test.parquet").slice(0, 200)
    parquet.write_table(table, tmp_path / "test.parquet")
    found = load_images(str(tmp_path), "test")
    rows = table.to_pylist()
    assert found.images.shape == (200, 3, 32, 32)
    assert found.classes[:3] == ("airplane", "automobile", "bird")
    assert found.labels.tolist() == [row["label"] for row in rows]
    expected = np.asarray(Image.open(io.BytesIO(rows[7]["img"]["bytes"])).convert("RGB"))
    assert found.images[7].permute(1, 2, 0).tolist() == expected.tolist()
