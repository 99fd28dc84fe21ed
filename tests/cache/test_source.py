"""The cached teacher in a Distiller's pool: as the live one, without running it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.cache import CachedTeacher, Keep, fingerprint, write_cache
from headstart.distill import Distiller, Teacher, TeacherPool
from headstart.distill.targets.source import Keys, TargetSource
from headstart.errors import HeadstartError, TeacherError
from tests.cache.toy import CLASSES, DATA, FEATURES, KEEP, SIZE, USE, Toy, keys_of, toy_batches, toy_teacher, write_toy

STEPS = 6
NAMES = ("old", "older", "oldest")


def train(sources: Sequence[TargetSource], *, keyed: bool = True, **options: Any) -> list[Tensor]:
    """Train a student for some steps; its weights."""
    torch.manual_seed(5)
    student = nn.Linear(FEATURES, CLASSES)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.5)
    pool = TeacherPool(sources, draw=options.pop("draw", 1), seed=3)
    distiller = Distiller(pool, total_steps=STEPS, stop=1.0, **{"temperature": 2.0, **options})
    for step in range(STEPS):
        batch = Toy().batch(step, SIZE)
        logits = student(batch.inputs)
        keys = keys_of(batch) if keyed else None
        loss = distiller(F.cross_entropy(logits, batch.labels), logits, batch.inputs, labels=batch.labels, keys=keys)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        distiller.step()
    return [parameter.detach() for parameter in student.parameters()]


def live(count: int) -> list[Teacher]:
    return [toy_teacher(name, seed=number) for number, name in enumerate(NAMES[:count])]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A cache folder of three teachers for each kind."""
    found = {}
    for keep in KEEP:
        found[str(keep.kind)] = tmp_path_factory.mktemp("cache")
        write_cache(found[str(keep.kind)], live(3), toy_batches(), data=DATA, use=USE, keep=keep)
    return found


def cached(folder: Path, count: int) -> list[CachedTeacher]:
    return [CachedTeacher(folder, name) for name in NAMES[:count]]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss": "mse", "standardize": True},
        {"loss": "dkd", "temperature": 3.0},
        {"draw": 2},
        {"draw": "all", "loss": "reverse_kl"},
    ],
)
def test_training_on_full_targets_is_training_on_live_teachers(options: dict[str, Any], folders: Any) -> None:
    """Bit for bit: whichever teacher is drawn, whatever is done with its logits."""
    expected, found = train(live(3), **options), train(cached(folders["full"], 3), **options)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_live_and_cached_teachers_may_share_a_pool(folders: Any) -> None:
    mixed = [*live(1), *cached(folders["full"], 3)[1:]]
    assert all(torch.equal(a, b) for a, b in zip(train(live(3)), train(mixed), strict=True))


def test_top_k_of_all_but_one_class_trains_as_full_targets_do(tmp_path: Path) -> None:
    write_cache(tmp_path, live(1), toy_batches(), data=DATA, use=USE, keep=Keep("top-k", CLASSES - 1))
    for a, b in zip(train(live(1)), train(cached(tmp_path, 1)), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-3)  # targets are kept in float16


def test_many_draws_train_as_full_targets_do(tmp_path: Path) -> None:
    write_cache(tmp_path, live(1), toy_batches(), data=DATA, use=USE, keep=Keep("sampled", 20_000))
    for a, b in zip(train(live(1)), train(cached(tmp_path, 1)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["top-k", "sampled"])
def test_rows_without_a_label_do_not_count(kind: str, folders: Any) -> None:
    (teacher,) = cached(folders[kind], 1)
    distiller = Distiller(teacher, total_steps=2, stop=1.0, temperature=2.0, weight=1.0)
    batch = Toy().batch(0, SIZE)
    labels = torch.tensor([0, -100, 1, -100])
    logits = torch.randn(SIZE, CLASSES, requires_grad=True)
    loss = distiller(torch.zeros(()), logits, batch.inputs, labels=labels, keys=keys_of(batch))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.abs().sum(-1).gt(0).tolist() == [True, False, True, False]
    kept = torch.tensor([0, 2])
    again = distiller(torch.zeros(()), logits[kept], None, keys=Keys(batch.samples[kept], 0))
    torch.testing.assert_close(loss, again)
    halves = distiller(torch.zeros(()), logits[kept], None, keys=Keys(batch.samples[kept], 0), num_items=4)
    torch.testing.assert_close(halves, again / 2)


@pytest.mark.parametrize("kind", ["full", "top-k", "sampled"])
def test_works_under_autocast_in_float32(kind: str, folders: Any) -> None:
    (teacher,) = cached(folders[kind], 1)
    batch, logits = Toy().batch(0, SIZE), torch.randn(SIZE, CLASSES, requires_grad=True)
    losses = []
    for enabled in (False, True):
        distiller = Distiller(teacher, total_steps=2, stop=1.0, temperature=2.0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            losses.append(distiller(torch.zeros(()), logits, batch.inputs, keys=keys_of(batch)))
    assert losses[0].dtype == losses[1].dtype == torch.float32
    assert torch.equal(*losses)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("sampled", {"loss": "mse"}, "cached teacher 'old': sampled targets are good for loss=kl and not for mse"),
        ("sampled", {"temperature": 1.0}, "were made at temperature 2 and are good for no other"),
        ("top-k", {"loss": "dist"}, "top-k targets are good for"),
        ("top-k", {"standardize": True}, "standardize needs all logits"),
    ],
)
def test_losses_it_is_not_good_for_are_refused_at_once(
    kind: str, options: dict[str, Any], message: str, folders: Any
) -> None:
    with pytest.raises(HeadstartError, match=message):
        Distiller(cached(folders[kind], 1), total_steps=STEPS, **{"temperature": 2.0, **options})


def test_several_at_once_need_full_targets(folders: Any) -> None:
    with pytest.raises(HeadstartError, match="sampled targets of 2 teachers cannot be averaged"):
        Distiller(TeacherPool(cached(folders["sampled"], 3), draw=2), total_steps=STEPS, temperature=2.0)


def test_keys_are_needed(folders: Any) -> None:
    with pytest.raises(HeadstartError, match=r"teacher 'old' is cached.*distiller\(..., keys=Keys\(samples, epoch\)\)"):
        train(cached(folders["full"], 1), keyed=False)


def test_a_run_longer_than_the_cache_is_refused(folders: Any) -> None:
    (teacher,) = cached(folders["full"], 1)
    teacher.require(keys_of(Toy().batch(STEPS - 1, SIZE)))
    with pytest.raises(TeacherError, match="holds no target of sample"):
        teacher.require(keys_of(Toy().batch(STEPS, SIZE)))


class TestExpectations:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"teacher": toy_teacher(seed=9)}, "teacher.weights: '.*' in the cache, '.*' now"),
            ({"data": {**DATA, "augment": {"shift": 9}}}, "data.augment.shift: 3 in the cache, 9 now"),
            ({"data": {**DATA, "tokenizer": "b"}}, "data.tokenizer: nothing in the cache, 'b' now"),
            ({"task": Toy(seed=8)}, "inputs: the samples look different"),
        ],
    )
    def test_another_teacher_or_data_is_refused(self, change: dict[str, Any], message: str, tmp_path: Path) -> None:
        write_toy(tmp_path)
        now = {"teacher": toy_teacher(), "task": Toy(), "data": DATA, **change}
        expected = fingerprint(now["teacher"], now["task"], now["data"])
        with pytest.raises(TeacherError, match=rf"(?s)old.targets: holds targets of something else:.*{message}.*make"):
            CachedTeacher(tmp_path, "old", expected=expected)

    def test_the_same_is_accepted(self, tmp_path: Path) -> None:
        write_toy(tmp_path)
        CachedTeacher(tmp_path, "old", expected=fingerprint(toy_teacher(), Toy(), DATA))


class TestMissing:
    def test_an_unknown_name_lists_those_there(self, folders: Any) -> None:
        with pytest.raises(
            TeacherError, match=r"new.targets: no such cache; .*\(teachers cached in .*: old, older, oldest"
        ):
            CachedTeacher(folders["full"], "new")

    def test_a_name_that_leads_to_the_file_of_another(self, folders: Any) -> None:
        with pytest.raises(TeacherError, match=r"old.targets: holds targets of teacher 'old', and not of '/old'"):
            CachedTeacher(folders["full"], "/old")

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(TeacherError, match=r"no such cache; make it with headstart cache .*: none\)"):
            CachedTeacher(tmp_path / "none", "old")

    def test_one_that_is_not_finished(self, tmp_path: Path) -> None:
        path = write_toy(tmp_path)
        path.rename(path.with_name("old.targets.part"))
        with pytest.raises(TeacherError, match="is not finished; start the same headstart cache command again"):
            CachedTeacher(tmp_path, "old")
