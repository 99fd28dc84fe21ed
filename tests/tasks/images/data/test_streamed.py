"""Streamed images: where they are stored makes no difference, and no image is left out or counted twice."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headstart.errors import DataError
from headstart.tasks.images import ImageClassification, ImageData, ImageModel, load_images
from headstart.tasks.images.data.streamed import StreamedImages
from tests.tasks.images.photos import CLASSES, FORMS, make_photos, write_parquet, write_shards

pytestmark = pytest.mark.usefixtures("able_to_cut")

SIZE = 12


def feed(folder: Path, seed: int = 0, **settings: Any) -> StreamedImages:
    content = {"name": str(folder), "size": SIZE, "workers": 0, **settings}
    return StreamedImages(ImageData.model_validate(content), seed=seed, device="cpu")


def held_out(feed: StreamedImages, **how: int) -> tuple[Tensor, Tensor]:
    found = list(feed.held_out(5, **{"part": 0, "parts": 1, **how}))
    return torch.cat([images[: len(labels)] for images, labels in found]), torch.cat([labels for _, labels in found])


def test_the_form_of_the_files_makes_no_difference(photos: dict[str, Path]) -> None:
    feeds = {form: feed(photos[form]) for form in FORMS}
    assert feeds["tree"].classes == feeds["parquet"].classes == CLASSES
    assert feeds["shards"].classes == ("0", "1", "2")
    for step in (0, 1, 5):
        drawn = [one.training(step, 12, part=0, parts=1) for one in feeds.values()]
        assert drawn[0].images.shape == (12, 3, SIZE, SIZE) and drawn[0].images.dtype == torch.uint8
        for other in drawn[1:]:
            assert torch.equal(other.images, drawn[0].images)
            assert torch.equal(other.labels, drawn[0].labels)
    images, labels = zip(*(held_out(one) for one in feeds.values()), strict=True)
    assert torch.equal(images[0], images[1]) and torch.equal(images[0], images[2])
    assert labels[0].tolist() == labels[1].tolist() == labels[2].tolist() == sorted(n % 3 for n in range(14))


def test_an_epoch_shows_each_image_once_and_labels_go_with_them(photos: dict[str, Path]) -> None:
    one, labels = feed(photos["tree"]), [label for _, label in make_photos(48, seed=0)]
    drawn = [one.training(step, 12, part=0, parts=1) for step in range(4)]
    samples = torch.cat([each.samples for each in drawn])
    assert sorted(samples.tolist()) == list(range(48)) and {each.epoch for each in drawn} == {0}
    assert torch.cat([each.labels for each in drawn]).tolist() == [labels[sample] for sample in samples]


@pytest.mark.parametrize("workers", [0, 2])
def test_parts_put_together_are_the_batch(workers: int, photos: dict[str, Path]) -> None:
    whole, parted = feed(photos["parquet"]), feed(photos["parquet"], workers=workers)
    for step in range(6):
        parts = [parted.training(step, 12, part=part, parts=3).images for part in range(3)]
        assert torch.equal(torch.cat(parts), whole.training(step, 12, part=0, parts=1).images)


def test_every_held_out_image_counts_once(photos: dict[str, Path]) -> None:
    one = feed(photos["tree"])
    images, labels = held_out(one)
    assert len(images) == len(labels) == 14
    shares = [held_out(one, part=part, parts=3) for part in range(3)]
    assert torch.cat([share[1] for share in shares]).bincount().tolist() == labels.bincount().tolist()
    found = {image.numpy().tobytes() for share in shares for image in share[0]}
    assert found == {image.numpy().tobytes() for image in images}


def test_held_out_training_images_are_trained_on_by_nobody(photos: dict[str, Path]) -> None:
    one = feed(photos["tree"], evaluate="validation", holdout=18)
    assert one.samples == 30 and len(held_out(one)[1]) == 18
    trained = torch.cat([one.training(step, 10, part=0, parts=1).labels for step in range(3)])
    everything = torch.cat([trained, held_out(one)[1]])
    assert everything.bincount().tolist() == [16, 16, 16]
    parted = [feed(photos["tree"], evaluate=evaluate, holdout=9, tuning=9) for evaluate in ("validation", "tuning")]
    assert [part.samples for part in parted] == [30, 30]
    aside = torch.cat([held_out(part)[1] for part in parted])
    assert torch.equal(aside.bincount(), held_out(one)[1].bincount())


def test_images_are_judged_at_a_size_of_their_own(photos: dict[str, Path]) -> None:
    one = feed(photos["tree"], evaluate_size=20)
    assert held_out(one)[0].shape == (14, 3, 20, 20) and one.shape == (3, 20, 20)
    assert one.training(0, 4, part=0, parts=1).images.shape == (4, 3, SIZE, SIZE)


def test_where_the_test_split_has_no_labels_the_validation_split_is_taken(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "validation", "test")):
        photos = make_photos(6, seed=number)
        write_parquet(tmp_path, split, [(content, -1 if split == "test" else label) for content, label in photos])
    assert held_out(feed(tmp_path))[1].tolist() == [0, 0, 1, 1, 2, 2]


def test_a_shard_whose_test_split_lacks_a_class(tmp_path: Path) -> None:
    write_shards(tmp_path, "train", make_photos(6, seed=0))
    write_shards(tmp_path, "val", [(content, min(label, 1)) for content, label in make_photos(6, seed=1)])
    one = feed(tmp_path)
    assert one.classes == ("0", "1", "2") and held_out(one)[1].max() == 1


def test_shards_of_images_of_one_size_fit_into_memory(tmp_path: Path) -> None:
    content, _ = make_photos(1, seed=0)[0]
    write_shards(tmp_path, "train", [(content, 0), (content, 1)])
    found = load_images(str(tmp_path))
    assert found.labels.tolist() == [0, 1] and torch.equal(found.images[0], found.images[1])
    with pytest.raises(DataError, match=r"whose label is \.cls; leave image_column and label_column out"):
        load_images(str(tmp_path), label_column="label")


def test_shards_without_labels_or_without_sense_are_refused(tmp_path: Path) -> None:
    (tmp_path / "unlabelled").mkdir()
    with tarfile.open(tmp_path / "unlabelled" / "train.tar", "w") as archive:
        member = tarfile.TarInfo("0.jpg")
        content, _ = make_photos(1, seed=0)[0]
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    with pytest.raises(DataError, match=r"train\.tar: has no \.cls file beside each image"):
        feed(tmp_path / "unlabelled")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "train.tar").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"train\.tar: cannot be read as webdataset"):
        feed(tmp_path / "broken")


def test_the_task_normalises_and_describes_what_it_streams(photos: dict[str, Path]) -> None:
    data = ImageData(name=str(photos["tree"]), size=SIZE, evaluate_size=16, workers=0)
    task = ImageClassification(ImageModel(name="resnet8", width=4), data)
    batch = task.batch(0, 12)
    pixels = feed(photos["tree"]).training(0, 12, part=0, parts=1).images
    mean, std = (torch.tensor(task.describe()[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    torch.testing.assert_close(batch.inputs, (pixels / 255 - mean) / std, rtol=1e-5, atol=1e-5)
    assert (task.describe()["channels"], task.describe()["size"]) == (3, [16, 16])
    model = nn.Sequential(nn.AvgPool2d(16), nn.Flatten())  # red, green, blue: the classes the other way round
    found = task.evaluate(lambda inputs: model(inputs).flip(1))
    assert found.quality == 1.0 and found.rows == 14
