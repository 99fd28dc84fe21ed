"""Pools whose teachers wait elsewhere: the same targets, bit for bit, and two at most on the device."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn

from headstart.distill import Distiller, Teacher, TeacherPool
from headstart.distill.pool import residence
from headstart.errors import TeacherError

STEPS = 40
CPU = torch.device("cpu")


def _convolutional(width: int) -> nn.Module:
    """A module with what modules have: several dtypes, numbers, buffers that are not saved, tied weights."""
    module = nn.Sequential(
        nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    module.append(nn.Linear(width, width)).append(nn.Linear(width, width)).append(nn.Linear(width, 3).double().float())
    module[6].weight = module[5].weight
    module.register_buffer("ids", torch.arange(3).expand(4, -1), persistent=False)
    module[1].running_mean = torch.randn(width)
    return module


def _modules() -> list[nn.Module]:
    """Of several architectures, one in bf16."""
    return [*(_convolutional(width) for width in (4, 4, 5, 9)), _convolutional(3).bfloat16()]


def _teachers(modules: list[nn.Module]) -> list[Teacher]:
    last = Teacher(modules[-1], dtype=torch.bfloat16)
    return [Teacher(module, memory_format=torch.channels_last) for module in modules[:-1]] + [last]


def _pools(**options: Any) -> tuple[TeacherPool, TeacherPool]:
    """The same teachers, resident and streamed."""
    modules = _modules()
    resident = TeacherPool(_teachers(copy.deepcopy(modules)), **options)
    return resident, TeacherPool(_teachers(modules), residence="stream", **options)


def _targets(pool: TeacherPool, step: int, images: Tensor, every: int = 1) -> Iterator[Tensor]:
    for teacher in pool.asked(step, images.device, following=step + every):
        target = teacher.targets(images, None)
        assert isinstance(target, Tensor)
        yield target


def _addresses(teacher: Teacher) -> set[int]:
    tensors = [*teacher.module.parameters(), *teacher.module.buffers()]
    return {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.numel()}


@pytest.mark.parametrize(
    "options", [{}, {"draw": 2}, {"draw": "all"}, {"weights": [1, 1, 5, 1, 1]}], ids=["one", "two", "all", "weighted"]
)
@pytest.mark.parametrize("every", [1, 3])
def test_targets_are_those_of_a_resident_pool(options: dict[str, Any], every: int) -> None:
    resident, streamed = _pools(**options)
    for step in range(0, STEPS, every):
        images = torch.randn(2, 3, 6, 6)
        for _micro_batch in range(2):
            pairs = zip(_targets(resident, step, images, every), _targets(streamed, step, images, every), strict=True)
            assert all(torch.equal(one, other) and one.dtype == other.dtype for one, other in pairs)


def test_training_is_the_same_with_prefetch_and_without() -> None:
    losses = []
    for ahead, pool in zip((False, True), _pools(), strict=True):
        torch.manual_seed(1)
        student = nn.Sequential(nn.Flatten(), nn.Linear(108, 3))
        optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
        distiller = Distiller(pool, total_steps=STEPS, stop=0.6, every=2)
        for _ in range(STEPS):
            images, labels = torch.randn(2, 3, 6, 6), torch.tensor([0, 2])
            if ahead:
                distiller.prefetch(images)
            loss = distiller.loss(student(images), labels, images)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            distiller.step()
            losses.append(loss.item())
        assert set(distiller.state_dict()) == {"current_step"}
    assert losses[:STEPS] == losses[STEPS:]


def test_two_at_most_are_on_the_device_and_the_others_are_whole_where_they_wait() -> None:
    teachers = _teachers(_modules())
    before = [copy.deepcopy(teacher.module.state_dict()) for teacher in teachers]
    pool = TeacherPool(teachers, residence="stream")
    homes = [_addresses(teacher) for teacher in pool.live]
    assert all(len(home) == 1 for home in homes) and len(set.union(*homes)) == len(homes)
    places: set[int] = set()
    for step in range(STEPS):
        (asked,) = pool.asked(step, CPU, following=step + 1)
        away = [teacher for teacher, home in zip(pool.live, homes, strict=True) if _addresses(teacher) != home]
        assert asked in away and len(away) <= 2
        places |= set.union(*map(_addresses, away))
    assert len(places) == 2
    for teacher, state in zip(pool.live, before, strict=True):
        for name, value in teacher.module.state_dict().items():
            assert torch.equal(value, state[name]) and value.stride() == state[name].stride()


def test_the_next_teacher_is_copied_while_the_present_one_works(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = TeacherPool(_teachers(_modules()), residence="stream", seed=3)
    copied: list[object] = []
    whole = residence._Waiting.copy_to

    def noting(self: residence._Waiting, buffer: Tensor) -> None:
        copied.append(self.teacher.name)
        whole(self, buffer)

    monkeypatch.setattr(residence._Waiting, "copy_to", noting)
    expected = []
    for step in range(STEPS):
        for _micro_batch in range(2):
            list(pool.asked(step, CPU, following=step + 1))
        expected.append(pool.teachers[pool.chosen(step)[0]].name)
    pool.bring(pool.teachers[pool.chosen(STEPS)[0]], CPU)  # waits for the copy that was started last
    expected.append(pool.teachers[pool.chosen(STEPS)[0]].name)
    # Each once when its turn comes, and not when the one before it was the same, or it was still there from before.
    held: list[object] = []
    needed = []
    for name in expected:
        if name not in held[-2:]:
            needed.append(name)
        if not held or held[-1] != name:
            held.append(name)
    assert copied == needed


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_two_teachers_of_memory_and_the_same_targets() -> None:
    cuda, width, count = torch.device("cuda"), 1024, 6
    modules = [nn.Linear(width, width, bias=False) for _ in range(count)]
    resident = TeacherPool([Teacher(module, device="cuda") for module in copy.deepcopy(modules)])
    inputs = torch.randn(8, width, device=cuda)
    resident.teachers[0].targets(inputs, None)  # cuBLAS takes memory of its own, once
    before = torch.cuda.memory_allocated()
    pool = TeacherPool(modules, residence="stream")
    for step in range(STEPS):
        (target,), (expected,) = _targets(pool, step, inputs), _targets(resident, step, inputs)
        assert torch.equal(target, expected)
        assert torch.cuda.memory_allocated() - before < 2.1 * 4 * width**2
    pool.bring(pool.live[0], CPU)
    assert all(parameter.is_cpu for teacher in pool.live for parameter in teacher.module.parameters())


def test_a_copy_waits_for_what_the_memory_was_used_for_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CUDA, by what is asked of its streams.

    New memory may be another kernel's until its stream has come so far, and a copy on another does not wait by itself.
    """
    asked: list[tuple[str, object]] = []

    class Recorded:
        def __init__(self, device: torch.device) -> None:
            pass

        def wait_stream(self, stream: object) -> None:
            asked.append(("wait", stream))

    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *shape, device, **how: empty(*shape, **how))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *_: asked.append(("hold", None)))
    monkeypatch.setattr(torch.cuda, "Stream", Recorded)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the present one of {device}")
    residence._Place(8, torch.device("cuda", 1))
    assert asked == [("wait", "the present one of cuda:1"), ("hold", None)]


def test_ranks_draw_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    for rank in (0, 2):
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        resident, streamed = _pools(per_rank=True)
        for step in range(STEPS):
            images = torch.randn(2, 3, 6, 6)
            (one,), (other,) = _targets(resident, step, images), _targets(streamed, step, images)
            assert torch.equal(one, other)


def test_folded_and_compiled_teachers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled without code generation, which takes half a minute."""
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module: compiler(module, backend="eager"))
    modules = [_convolutional(4) for _ in range(3)]
    options: dict[str, Any] = {"fold": True, "compile": True}
    resident = [Teacher(copy.deepcopy(module), **options) for module in modules]
    streamed = TeacherPool([Teacher(module, **options) for module in modules], residence="stream")
    images = torch.randn(2, 3, 6, 6)
    for step in range(8):
        (target,) = _targets(streamed, step, images)
        assert torch.equal(target, resident[streamed.chosen(step)[0]].logits(images))


def test_non_finite_outputs_are_noticed() -> None:
    broken = nn.Linear(2, 3)
    nn.init.constant_(broken.weight, torch.nan)
    pool = TeacherPool([nn.Linear(2, 3), Teacher(broken, name="broken")], residence="stream", draw="all")
    distiller = Distiller(pool, total_steps=10)
    inputs = torch.randn(4, 2)
    assert distiller.loss(nn.Linear(2, 3)(inputs), torch.zeros(4, dtype=torch.long), inputs).isfinite()
    distiller.step()
    with pytest.raises(TeacherError, match=r"teacher 'broken' gave non-finite logits at step 0"):
        distiller.step()


def test_files_lie_in_the_folder_named_and_leave_nothing_there(tmp_path: Path) -> None:
    pool = TeacherPool(_teachers(_modules()), residence="stream", spool=tmp_path)
    images = torch.randn(2, 3, 6, 6)
    for step in range(4):
        (target,) = _targets(pool, step, images)
        assert torch.equal(target, pool.live[pool.chosen(step)[0]].logits(images))
    assert not list(tmp_path.iterdir())
    with pytest.raises(TeacherError, match=r"teacher 'Linear': .*nowhere cannot hold its .* bytes \(No such file"):
        TeacherPool([nn.Linear(2, 3)], residence="stream", spool=tmp_path / "nowhere")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there, memory can be pinned")
def test_a_host_whose_memory_cannot_be_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(TeacherError, match=r"the host's memory cannot hold its 524 bytes, pinned \(.*; give spool= a"):
        TeacherPool([nn.Linear(2, 3)], residence="stream")


def test_a_generator_is_taken_in_one_by_one() -> None:
    put_away = []

    def teachers() -> Iterator[Teacher]:
        for _ in range(3):
            teacher = Teacher(nn.Linear(2, 3))
            before = _addresses(teacher)
            yield teacher
            put_away.append(_addresses(teacher).isdisjoint(before))

    TeacherPool(teachers(), residence="stream")
    assert put_away == [True] * 3


class Special(Tensor):
    """A tensor with a meaning of its own, as quantised weights are."""


def _special() -> nn.Module:
    module = nn.Linear(2, 3)
    module.register_buffer("scales", torch.ones(3).as_subclass(Special))
    return module


def _sharing() -> list[nn.Module]:
    first, second = nn.Linear(2, 3), nn.Linear(2, 3)
    second.weight = first.weight
    return [first, second]


@pytest.mark.parametrize(
    ("teachers", "options", "message"),
    [
        ([Teacher(nn.Linear(2, 3), device="cpu")], {}, r"'Linear' stays on cpu, but residence='stream' brings"),
        (_sharing(), {}, r"teacher 'Linear' shares weights with another; residence='stream' cannot take one away"),
        ([_special()], {}, r"keeps weights as Special on cpu, which residence='stream' cannot copy"),
        ([nn.Linear(2, 3, device="meta")], {}, r"keeps weights as Parameter on meta"),
        ([nn.Linear(2, 3)], {"residence": "host"}, r"residence='host' must be 'device', 'stream' or 'sharded'"),
        ([nn.Linear(2, 3)], {"residence": "device", "spool": "x"}, r"spool='x': teachers wait in files with"),
    ],
)
def test_messages(teachers: list[Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(TeacherError, match=message):
        TeacherPool(teachers, **{"residence": "stream", **options})


def test_weights_converted_behind_its_back_are_refused() -> None:
    pool = TeacherPool([nn.Linear(2, 3)], residence="stream")
    pool.live[0].module.bfloat16()
    with pytest.raises(TeacherError, match=r"made torch.bfloat16 after it was put into a pool .* Teacher\(dtype="):
        pool.bring(pool.live[0], CPU)
