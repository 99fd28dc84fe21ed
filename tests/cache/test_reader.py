"""Reading: every target in any order, and a sentence for each one that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from headstart.cache import Keep
from headstart.cache.container import Header
from headstart.cache.fingerprint import Fingerprint
from headstart.cache.formats import FullRows
from headstart.cache.reader import CacheFile
from headstart.cache.writer import CacheWriter
from headstart.distill.targets.source import Keys
from headstart.errors import TeacherError
from tests.cache.toy import SIZE, Toy, keys_of, toy_batches, toy_teacher, write_toy


def stored(path: Path, keys: Keys) -> Tensor:
    file = CacheFile(path)
    target = file.header.rows.decode(file.read(keys))
    assert isinstance(target, Tensor)
    return target


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("rows", [1, 3])
def test_batches_come_back_as_the_teacher_gave_them(rows: int, parts: int, tmp_path: Path) -> None:
    batches, teacher = toy_batches(Toy(rows=rows), parts=parts), toy_teacher()
    path = write_toy(tmp_path, teacher=teacher, batches=batches)
    for place in batches.plan:
        batch = batches.batch(*place)
        assert torch.equal(stored(path, keys_of(batch)), teacher.logits(batch.inputs))


@pytest.mark.parametrize("rows", [1, 3])
def test_any_samples_in_any_order(rows: int, tmp_path: Path) -> None:
    """From several blocks, some next to each other and some not, as a run with another order asks for them."""
    task, teacher = Toy(rows=rows), toy_teacher()
    path = write_toy(tmp_path, teacher=teacher, batches=toy_batches(task, steps=8))
    there = torch.cat([task.batch(step, SIZE).samples for step in range(4)])
    generator = torch.Generator().manual_seed(0)
    for count in (1, 2, 5, 16):
        samples = there[torch.randperm(16, generator=generator)[:count]]
        expected = teacher.logits(task.inputs(samples, 0))
        torch.testing.assert_close(stored(path, Keys(samples, 0)), expected, rtol=1e-6, atol=1e-6)


def test_epochs_are_told_apart(tmp_path: Path) -> None:
    """The same sample was augmented differently; epochs may be asked for in turn."""
    task, teacher = Toy(samples=SIZE), toy_teacher()
    file = CacheFile(write_toy(tmp_path, teacher=teacher, batches=toy_batches(task, steps=3)))
    samples = torch.arange(SIZE)
    for epoch in (2, 0, 1, 0):
        found = file.header.rows.decode(file.read(Keys(samples, epoch)))
        assert isinstance(found, Tensor)
        torch.testing.assert_close(found, teacher.logits(task.inputs(samples, epoch)), rtol=1e-6, atol=1e-6)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    path = write_toy(tmp_path)  # 6 steps of 4 samples, 4 steps an epoch
    held = "It holds epochs 0 to 1, steps 0 to 5, in batches of 4; cache the longest run, with the widest window"
    with pytest.raises(TeacherError, match=f"old.targets: holds no target of epoch 2. {held}"):
        CacheFile(path).read(Keys(torch.tensor([0]), 2))
    later = toy_batches().batch(7, 0)
    with pytest.raises(TeacherError, match=f"holds no target of sample {later.samples[0]} in epoch 1. {held}"):
        CacheFile(path).read(keys_of(later))
    with pytest.raises(TeacherError, match="holds no target of sample 999 in epoch 0"):
        CacheFile(path).read(Keys(torch.tensor([999]), 0))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"none.targets: cannot be read \(No such file"):
        CacheFile(tmp_path / "none.targets")


class TestMixed:
    """Mixup and CutMix: a target belongs to a pair of samples."""

    SAMPLES, PARTNERS = torch.tensor([4, 0, 2]), torch.tensor([1, 4, 0])

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        header = Header(
            teacher="old",
            fingerprint=Fingerprint(data={}, inputs=[], teacher=None, prepared=[]),
            rows=FullRows(classes=2, dtype="float32"),
            rows_per_sample=1,
            mixed=True,
            batch_size=3,
            parts=1,
            versions={},
        )
        with CacheWriter(tmp_path / "mixed.targets", header, [(0, 0)]) as writer:
            rows = header.rows.encode(torch.arange(6.0).view(3, 2), torch.zeros(3))
            writer.append(Keys(self.SAMPLES, 0, self.PARTNERS), rows.numpy())
        return tmp_path / "mixed.targets"

    def test_the_same_pairs_are_found(self, path: Path) -> None:
        found = stored(path, Keys(self.SAMPLES.flip(0), 0, self.PARTNERS.flip(0)))
        assert torch.equal(found, torch.arange(6.0).view(3, 2).flip(0))

    def test_another_partner_is_refused(self, path: Path) -> None:
        keys = Keys(self.SAMPLES, 0, torch.tensor([1, 3, 0]))
        with pytest.raises(TeacherError, match=r"sample 0 of epoch 0 was mixed with 4 when .* and is mixed with 3 now"):
            CacheFile(path).read(keys)

    def test_so_is_none(self, path: Path) -> None:
        with pytest.raises(TeacherError, match="targets are for samples mixed with partners, and these are unmixed"):
            CacheFile(path).read(Keys(self.SAMPLES, 0))

    def test_so_is_one_where_there_was_none(self, tmp_path: Path) -> None:
        path = write_toy(tmp_path, keep=Keep("full"))
        batch = toy_batches().batch(0, 0)
        with pytest.raises(TeacherError, match="are for samples unmixed, and these are mixed with partners"):
            CacheFile(path).read(Keys(batch.samples, 0, batch.samples.flip(0)))
