"""Caches of all views of all samples: one file for every epoch, seed and length."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from headstart.cache import CachedTeacher, EachView, all_views, fingerprint
from headstart.cache.container import file_bytes
from headstart.cache.reader import CacheFile
from headstart.distill.targets.source import Keys
from headstart.errors import HeadstartError, TeacherError
from headstart.tasks import Batch, FewViews
from headstart.tasks.random import random_below
from tests.cache.toy import CLASSES, DATA, SIZE, Toy, toy_batches, toy_teacher, write_toy

VIEWS = 3


class Seen(Toy):
    """A toy whose samples are seen in three ways, drawn by seed and epoch."""

    views: int | None = VIEWS

    def view_of(self, samples: Tensor, epoch: int) -> Tensor:
        return random_below(VIEWS, samples, seed=self.order_seed, epoch=epoch, stream=9)

    def view(self, samples: Tensor, number: int) -> Batch:
        return Batch(self.inputs(samples, number), samples % CLASSES, samples, number)


def write_views(folder: Path, task: Seen) -> Path:
    return write_toy(folder, batches=all_views(task, SIZE))


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("samples", [3, 8, 18])
def test_any_epoch_of_any_seed_is_read(samples: int, rows: int, tmp_path: Path) -> None:
    """Samples that do not divide into batches, fewer than a batch; views mixed in a batch, in any order."""
    write_views(tmp_path, Seen(samples=samples, rows=rows))
    teacher = toy_teacher()
    for seed in (0, 5):
        task = Seen(samples=samples, rows=rows, order_seed=seed)
        cached = CachedTeacher(tmp_path, "old", view_of=task.view_of)
        assert cached.views == VIEWS
        for epoch in (0, 7, 123):
            few = torch.randperm(samples, generator=torch.Generator().manual_seed(epoch))[:5]
            found = cached.targets(None, Keys(few, epoch))
            each = [task.inputs(few[i : i + 1], int(view)) for i, view in enumerate(task.view_of(few, epoch))]
            assert isinstance(found, Tensor)
            torch.testing.assert_close(found, teacher.logits(torch.cat(each)), rtol=1e-5, atol=1e-6)


def test_each_view_of_each_sample_is_made_once(tmp_path: Path) -> None:
    batches = all_views(Seen(samples=10), SIZE)
    assert batches.samples == 10 * VIEWS
    assert len(batches.plan) == 3 * VIEWS  # of 4, 4 and 2
    made = [batches.batch(*place) for place in batches.plan]
    pairs = [(int(sample), batch.epoch) for batch in made for sample in batch.samples]
    assert pairs == [(sample, view) for view in range(VIEWS) for sample in range(10)]
    path = write_toy(tmp_path, batches=batches)
    file = CacheFile(path)
    assert path.stat().st_size == file_bytes(file.header, len(batches.plan), batches.samples)


def test_flops_are_of_the_samples_and_not_of_full_batches(tmp_path: Path) -> None:
    from headstart.cache import write_cache
    from tests.cache.toy import USE

    batches = all_views(Seen(samples=10), SIZE)
    (path,) = write_cache(
        tmp_path, [toy_teacher()], batches, data=DATA, use=USE, flops=lambda _, inputs: 100.0 * len(inputs)
    )
    assert CacheFile(path).cost.cache_flops == pytest.approx(100.0 * 10 * VIEWS)


def test_its_fingerprint_does_not_depend_on_the_seed(tmp_path: Path) -> None:
    """Neither of the order nor of which view comes when; other samples are still told apart."""
    write_views(tmp_path, Seen())
    for task in (Seen(order_seed=4), Seen(samples=18, order_seed=9)):
        expected = fingerprint(toy_teacher(), EachView(task), DATA)
        CachedTeacher(tmp_path, "old", expected=expected, view_of=task.view_of)


class Moved(Seen):
    """The same samples, but for one in the middle that is gone, so that those behind it have moved up."""

    def inputs(self, samples: Tensor, epoch: int) -> Tensor:
        return super().inputs(samples + (samples >= 9), epoch)


@pytest.mark.parametrize("other", [Seen(seed=8), Moved(), Seen(samples=17), Seen(samples=19)])
def test_other_samples_are_refused(other: Seen, tmp_path: Path) -> None:
    """Also where the first ones are the same."""
    write_views(tmp_path, Seen())
    expected = fingerprint(toy_teacher(), EachView(other), DATA)
    with pytest.raises(TeacherError, match="the samples look different"):
        CachedTeacher(tmp_path, "old", expected=expected, view_of=Seen().view_of)
    with pytest.raises(HeadstartError, match="the samples look different"):
        write_views(tmp_path, other)


def test_a_finished_one_is_whole_in_whatever_batches_it_is_asked_for(tmp_path: Path) -> None:
    before = write_views(tmp_path, Seen()).read_bytes()
    path = write_toy(tmp_path, batches=all_views(Seen(), 7))
    assert path.read_bytes() == before
    path.with_name("old.targets.part").write_bytes(before[: len(before) // 2])
    path.unlink()
    with pytest.raises(HeadstartError, match="batch_size: 4 there, 7 now"):
        write_toy(tmp_path, batches=all_views(Seen(), 7))


def test_killed_and_started_again_it_is_the_same_file(tmp_path: Path) -> None:
    whole = write_views(tmp_path / "whole", Seen()).read_bytes()
    part = tmp_path / "again" / "old.targets.part"
    part.parent.mkdir()
    part.write_bytes(whole[: len(whole) // 2])
    assert write_views(tmp_path / "again", Seen()).read_bytes() == whole


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    write_views(tmp_path, Seen())
    with pytest.raises(HeadstartError, match=r"holds 3 views of each sample.*CachedTeacher\(view_of=...\)"):
        CachedTeacher(tmp_path, "old").targets(None, Keys(torch.arange(2), 0))
    cached = CachedTeacher(tmp_path, "old", view_of=lambda samples, _: torch.full_like(samples, 3))
    with pytest.raises(TeacherError, match=r"no target of view 3. It holds 18 samples, each in 3 views"):
        cached.targets(None, Keys(torch.arange(2), 0))
    cached = CachedTeacher(tmp_path, "old", view_of=lambda samples, _: torch.zeros_like(samples))
    with pytest.raises(TeacherError, match=r"no target of sample 18 in view 0"):
        cached.targets(None, Keys(torch.tensor([1, 18]), 0))


def test_one_by_epoch_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    write_toy(tmp_path)
    with pytest.raises(HeadstartError, match="views: None there, 3 now"):
        write_views(tmp_path, Seen())
    assert toy_batches().views is None


def test_toys_are_told_apart() -> None:
    assert isinstance(Seen(), FewViews)
    assert not isinstance(Toy(), FewViews)
