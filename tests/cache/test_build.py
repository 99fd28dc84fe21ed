"""Caching teachers: what is asked of them, what is said before and meanwhile, what is refused."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from headstart.cache import CachedTeacher, Forecast, Keep, write_cache
from headstart.cache.reader import CacheFile
from headstart.distill import Teacher, mse
from headstart.distill.targets.source import Keys
from headstart.distill.targets.sparse import Sampled
from headstart.errors import HeadstartError, TeacherError
from headstart.records import TeacherCost
from headstart.tasks import Batch
from tests.cache.toy import DATA, KEEP, SIZE, USE, Toy, keys_of, toy_batches, toy_teacher, write_toy


class Watching:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.forecasts: list[Forecast] = []
        self.told: list[tuple[int, int]] = []

    def forecast(self, forecast: Forecast) -> None:
        self.forecasts.append(forecast)

    def cached(self, done: int, total: int) -> None:
        self.told.append((done, total))


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("keep", KEEP, ids=lambda keep: keep.kind)
def test_the_forecast_is_what_it_takes(keep: Keep, rows: int, parts: int, tmp_path: Path) -> None:
    watching, batches = Watching(), toy_batches(Toy(rows=rows), parts=parts)
    teachers = [toy_teacher("old"), toy_teacher("a much older one", seed=1)]
    paths = write_cache(tmp_path, teachers, batches, data=DATA, use=USE, keep=keep, progress=watching)
    (forecast,) = watching.forecasts
    assert forecast.bytes == sum(path.stat().st_size for path in paths)
    assert (forecast.samples, forecast.teachers) == (6 * SIZE, 2)
    assert forecast.free == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.5)
    assert watching.told == [(number, 6 * parts) for number in range(1, 6 * parts + 1)]


@dataclass
class Mixing(Toy):
    """Samples mixed with partners that follow from the step."""

    silent_from: int = 99

    def batch(self, step: int, size: int, *, part: int = 0, parts: int = 1) -> Batch:
        batch = super().batch(step, size, part=part, parts=parts)
        partners = (batch.samples + 1 + step) % self.samples
        inputs = 0.7 * batch.inputs + 0.3 * self.inputs(partners, batch.epoch)
        return replace(batch, inputs=inputs, partners=partners if step < self.silent_from else None)


def test_mixtures_are_found_by_their_partners(tmp_path: Path) -> None:
    task, teacher = Mixing(), toy_teacher()
    write_toy(tmp_path, teacher=teacher, batches=toy_batches(task))
    batch = task.batch(1, SIZE)
    assert batch.partners is not None
    cached = CachedTeacher(tmp_path, "old")
    found = cached.targets(None, Keys(batch.samples, batch.epoch, batch.partners))
    torch.testing.assert_close(found, teacher.logits(batch.inputs))
    for partners, message in ((batch.partners.flip(0), "was mixed with"), (None, r"Batch\(partners=...\)")):
        with pytest.raises(TeacherError, match=message):
            cached.targets(None, Keys(batch.samples, batch.epoch, partners))


def test_batches_tell_partners_always_or_never(tmp_path: Path) -> None:
    with pytest.raises(HeadstartError, match=r"epoch 0 tells no mixing partners.*give Batch\(partners"):
        write_toy(tmp_path, batches=toy_batches(Mixing(silent_from=2)))


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_disk_without_room_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(10**9, 10**9 - 1234, 1234))
    with pytest.raises(
        HeadstartError, match=r"the cache takes 1.\d kB and the disk has 1.2 kB free; keep less of each"
    ):
        write_toy(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_what_is_there_counts_as_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_toy(tmp_path, batches=toy_batches(steps=5))
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(10**9, 10**9 - 1234, 1234))
    assert write_toy(tmp_path, batches=toy_batches(steps=6)) == path


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_full_targets_are_what_the_live_teacher_gives(precision: torch.dtype, tmp_path: Path) -> None:
    teacher = toy_teacher(autocast=None if precision is torch.float32 else precision)
    file = CacheFile(write_toy(tmp_path, teacher=teacher, keep=Keep()))
    batch = toy_batches().batch(3, 0)
    live, cached = teacher.logits(batch.inputs), file.header.rows.decode(file.read(keys_of(batch)))
    assert isinstance(cached, torch.Tensor) and cached.dtype == live.dtype == precision
    assert torch.equal(cached, live)


def draws(path: Path, step: int) -> torch.Tensor:
    file = CacheFile(path)
    target = file.header.rows.decode(file.read(keys_of(toy_batches().batch(step, 0))))
    assert isinstance(target, Sampled)
    return target.indices


def test_draws_follow_from_teacher_epoch_and_sample(tmp_path: Path) -> None:
    """However the batches are cut; and teachers, epochs and samples have draws of their own."""
    keep = Keep("sampled", 40)
    whole = write_toy(tmp_path / "a", keep=keep)
    parts = write_toy(tmp_path / "b", keep=keep, batches=toy_batches(parts=2))
    assert torch.equal(draws(whole, 2), draws(parts, 2))
    same = Teacher(nn.Linear(3, 7), name="x")
    nn.init.zeros_(same.module.weight), nn.init.zeros_(same.module.bias)  # type: ignore[arg-type]
    flat = write_toy(tmp_path / "c", teacher=same, keep=Keep("sampled", 1))
    other = Teacher(same.module, name="y")
    found = [draws(flat, step) for step in range(6)]
    assert len({tuple(step.flatten().tolist()) for step in found}) > 3
    others = [draws(write_toy(tmp_path / "d", teacher=other, keep=Keep("sampled", 1)), step) for step in range(6)]
    assert not torch.equal(torch.stack(found), torch.stack(others))


def test_non_finite_logits_are_not_cached(tmp_path: Path) -> None:
    teacher = toy_teacher("sick")
    epoch_1 = Toy().batch(4, SIZE).inputs[0, 0]
    teacher.prepare = lambda inputs: torch.where((inputs == epoch_1).any(), torch.nan, inputs)
    with pytest.raises(TeacherError, match=r"teacher 'sick' gave non-finite logits in epoch 1. Check its weights"):
        write_toy(tmp_path, teacher=teacher)


def test_use_that_the_targets_are_not_good_for_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(HeadstartError, match="teacher 'old': sampled targets are good for loss=kl and not for mse"):
        write_toy(tmp_path / "cache", keep=KEEP[2], use=replace(USE, loss=mse))
    assert not (tmp_path / "cache").exists()
    write_toy(tmp_path / "cache", keep=KEEP[0], use=replace(USE, loss=mse))


def test_names_that_would_share_a_file_are_refused(tmp_path: Path) -> None:
    teachers = [toy_teacher("runs/a"), toy_teacher("runs a")]
    with pytest.raises(TeacherError, match=r"two teachers would share a file .* names that differ more"):
        write_cache(tmp_path, teachers, toy_batches(), data=DATA, use=USE)


def test_a_window_that_never_opens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HeadstartError, match=r"nothing to cache: the run distils on no step; look at distill.start"):
        write_toy(tmp_path, batches=toy_batches(steps=0))


class PerBatch(nn.Module):
    """Gives one row a batch."""

    def forward(self, inputs: torch.Tensor) -> Any:
        return inputs.mean(0, keepdim=True)


def test_other_numbers_of_rows_for_each_sample_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="gives 1 rows of logits for 4 samples; a cache needs the same number"):
        write_toy(tmp_path, teacher=Teacher(PerBatch(), name="odd"))


class TestCost:
    TRAINING = TeacherCost(name="old", quality=0.8, parameters=40, seconds=7.0, flops=5e6, steps={"plain": 3})

    def test_is_training_and_all_of_the_making(self, tmp_path: Path) -> None:
        """Half a second a block passes on the clock of these tests; FLOPs are as they are counted."""
        teachers, batches = [toy_teacher("old"), toy_teacher("other", seed=1)], toy_batches(steps=6, parts=2)
        seen: list[tuple[str, int]] = []

        def flops(teacher: Teacher, inputs: torch.Tensor) -> int:
            seen.append((teacher.name, len(inputs)))
            return 100

        paths = write_cache(
            tmp_path, teachers, batches, data=DATA, use=USE, training={"old": self.TRAINING}, flops=flops
        )
        costs = [CacheFile(path).cost for path in paths]
        assert costs[0] == self.TRAINING.model_copy(update={"cache_seconds": 6.0, "cache_flops": 1200})
        assert costs[1] == TeacherCost(name="other", cache_seconds=6.0, cache_flops=1200)
        assert seen == [("old", SIZE // 2), ("other", SIZE // 2)]

    def test_is_unknown_where_nobody_told(self, tmp_path: Path) -> None:
        assert CacheFile(write_toy(tmp_path)).cost == TeacherCost(name="old", cache_seconds=3.0)

    def test_adds_up_over_interruptions(self, tmp_path: Path) -> None:
        write_toy(tmp_path, batches=toy_batches(steps=2))
        assert CacheFile(write_toy(tmp_path, batches=toy_batches(steps=6))).cost.cache_seconds == 3.0

    def test_a_cached_teacher_tells_it(self, tmp_path: Path) -> None:
        write_toy(tmp_path)
        assert CachedTeacher(tmp_path, "old").cost.cache_seconds == 3.0
