"""A look at teachers whose quality is known: what is measured, who is dropped and why, and that nothing is touched."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import headstart
from headstart.distill import Distiller, Projection, Teacher, TeacherPool, Window
from headstart.distill.probing import choose, probe
from headstart.errors import HeadstartError, TeacherError
from tests.distill.conftest import Given
from tests.train.processes import run_together

ROWS, FEATURES, CLASSES = 300, 6, 4


def linear(scale: float, order: list[int] | None = None, seed: int = 0) -> nn.Linear:
    """The rule behind the labels, so many times as sure as it should be, its classes in some order."""
    model = nn.Linear(FEATURES, CLASSES)
    generator = torch.Generator().manual_seed(seed)
    weight = 2 * torch.randn(CLASSES, FEATURES, generator=generator)
    model.load_state_dict({"weight": scale * weight[order or list(range(CLASSES))], "bias": torch.zeros(CLASSES)})
    return model


def batches(count: int = 2) -> list[tuple[Tensor, Tensor]]:
    """Labels drawn from the softmax of the rule."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(count):
        inputs = torch.randn(ROWS, FEATURES, generator=generator)
        found.append((inputs, torch.multinomial(linear(1.0)(inputs).softmax(-1), 1, generator=generator).squeeze(-1)))
    return found


@pytest.fixture
def fresh() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, CLASSES))


def test_what_is_measured(fresh: nn.Module) -> None:
    shown = batches()
    found = probe([linear(3.0), linear(1.0)], fresh, shown, timed=False)
    sure, right = found.teachers
    inputs, labels = (torch.cat(parts) for parts in zip(*shown, strict=True))
    logits = linear(3.0)(inputs).double()
    assert sure.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)
    assert sure.accuracy == right.accuracy == pytest.approx((logits.argmax(-1) == labels).double().mean().item())
    assert sure.temperature == pytest.approx(3 * (right.temperature or 0.0), rel=1e-4)
    assert sure.calibrated_loss == pytest.approx(right.calibrated_loss, rel=1e-5)
    assert sure.agreement == right.agreement == 1.0
    p = (logits / sure.temperature).softmax(-1)
    assert sure.brier == pytest.approx((p - F.one_hot(labels, CLASSES)).square().sum(-1).mean().item(), rel=1e-6)
    assert found.rows == 2 * ROWS
    assert found.student_loss == pytest.approx(F.cross_entropy(fresh.eval()(inputs), labels).item(), rel=1e-5)
    assert [sure.time, right.time] == [None, None]


def test_the_cost_is_a_share_of_the_step() -> None:
    """A student's forward and the gradient of its weight: twice a teacher's forward, where both are one layer."""
    found = probe(linear(1.0), nn.Linear(FEATURES, CLASSES), batches(), timed=False)
    (teacher,) = found.teachers
    assert teacher.cost == 0.5
    assert teacher.break_even == pytest.approx(0.25 / 1.25)
    quarter = probe(linear(1.0), nn.Linear(FEATURES, CLASSES), batches(), window=Window(stop=0.25), timed=False)
    assert quarter.teachers[0].break_even == pytest.approx(0.125 / 1.125)


def test_forwards_are_timed_where_asked_or_not_counted(fresh: nn.Module) -> None:
    class Uncounted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = linear(1.0)

        def forward(self, inputs: Tensor) -> Tensor:
            if float(inputs.sum()) == 0.0:  # tensors without values cannot tell
                return inputs
            output: Tensor = self.linear(inputs)
            return output

    timed, uncounted = probe([linear(1.0), Uncounted()], fresh, batches()).teachers
    assert timed.time is not None and timed.time > 0 and timed.cost is not None
    assert uncounted.cost is None and uncounted.time is not None and uncounted.break_even > 0


def test_nothing_is_touched(fresh: nn.Module) -> None:
    fresh.train()
    fresh[2].eval()  # type: ignore[index]
    fresh(batches()[0][0]).sum().backward()
    state = {name: value.clone() for name, value in fresh.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in fresh.parameters()]
    shown = batches()
    inputs = [tensor.clone() for batch in shown for tensor in batch]
    teachers = [linear(1.0), linear(2.0)]
    torch.manual_seed(3)
    random.seed(3)
    before, other = torch.get_rng_state(), random.getstate()
    probe(teachers, fresh, shown)
    assert torch.equal(torch.get_rng_state(), before) and random.getstate() == other
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, state[name]), name
    for parameter, gradient in zip(fresh.parameters(), gradients, strict=True):
        assert parameter.requires_grad
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)  # type: ignore[arg-type]
    assert [module.training for module in fresh.modules()] == [True, True, True, False, True]
    assert all(torch.equal(now, was) for now, was in zip((t for b in shown for t in b), inputs, strict=True))


def shuffled(shown: list[tuple[Tensor, Tensor]]) -> nn.Module:
    """Sure of one class, whatever it sees: as a model that has learnt shuffled labels by heart."""

    class Hash(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return 12.0 * F.one_hot((inputs.double().sum(-1) * 1e4).long().remainder(CLASSES), CLASSES).float()

    return Hash()


def test_who_is_dropped_and_why(fresh: nn.Module) -> None:
    shown = batches()
    torch.manual_seed(9)
    given = {
        "good": linear(1.0),
        "random": nn.Linear(FEATURES, CLASSES),
        "order": linear(1.0, order=[1, 2, 3, 0]),
        "shuffled": shuffled(shown),
        "flat": Given(torch.zeros(ROWS, CLASSES)),
        "nan": Given(torch.full((ROWS, CLASSES), torch.nan)),
        "overflow": nn.Sequential(linear(1.0), nn.Threshold(-1e9, 0.0), _Overflow()),
    }
    found = probe([Teacher(module, name=name) for name, module in given.items()], fresh, shown, timed=False)
    why = {teacher.name: teacher.dropped for teacher in found.teachers}
    assert why["good"] is None
    assert "no better than the labels' frequencies alone" in str(why["random"])
    assert "in another order than the labels" in str(why["order"]) and "give classes=" in str(why["order"])
    assert str(why["shuffled"]).endswith("though sure of itself: shuffled labels, or inputs that it was not trained on")
    assert "no better than the labels' frequencies alone" in str(why["flat"]) and "sure of itself" not in str(
        why["flat"]
    )
    assert "outputs are not finite" in str(why["nan"]) and found.teachers[5].loss is None
    assert "1 of its outputs are not finite" not in str(why["good"])
    assert "2 of its outputs are not finite" in str(why["overflow"])
    assert [teacher.name for teacher in found.kept] == ["good"]
    assert found.ranked[0].name == "good"
    json.dumps(found.to_dict(), allow_nan=False)
    told = str(found)
    assert told.splitlines()[1].startswith("good") and "order: its classes seem" in told


class _Overflow(nn.Module):
    """Spoils one row of each batch."""

    def forward(self, logits: Tensor) -> Tensor:
        spoilt = logits.clone()
        spoilt[0, 0] = torch.inf
        return spoilt


def test_a_teacher_that_costs_more_than_it_can_be_worth(fresh: nn.Module) -> None:
    class Huge(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rule, self.idle = linear(1.0), nn.Linear(FEATURES, 100_000, bias=False)

        def forward(self, inputs: Tensor) -> Tensor:
            output: Tensor = self.rule(inputs) + 0.0 * self.idle(inputs).sum(-1, keepdim=True)
            return output

    (found,) = probe(Huge(), fresh, batches(1), timed=False).teachers
    assert found.every == 4 and found.break_even > 0.9
    assert "asking it costs more than it can be worth" in str(found.dropped)
    assert found.saving == pytest.approx(0.5 / 4)  # three steps of four have no teacher


def test_a_student_that_is_better_already() -> None:
    torch.manual_seed(1)
    half = linear(1.0)
    with torch.no_grad():
        half.weight[:, FEATURES // 2 :] = 0.0
    (found,) = probe(half, linear(1.0), batches(), timed=False).teachers
    assert "the student is better already" in str(found.dropped)


def test_how_long_a_teacher_stays_ahead(fresh: nn.Module) -> None:
    shown = batches(1)
    whole = probe(linear(1.0), fresh, shown, total_steps=100, timed=False)
    step = 100 * 3 * 2 * ROWS * (FEATURES * 16 + 16 * CLASSES) - 100 * 2 * ROWS * FEATURES * 16  # no gradient of inputs
    found = {
        times: probe(
            linear(1.0), fresh, shown, total_steps=100, trained={"Linear": times * step}, timed=False
        ).teachers[0]
        for times in (0.06, 0.6, 1.5, 3.0, 9.0)
    }
    assert whole.teachers[0].saving == pytest.approx(0.5) == found[3.0].saving == found[9.0].saving
    assert found[1.5].saving == pytest.approx(0.25, rel=1e-9)
    assert found[0.06].saving == pytest.approx(0.01) and "costs more" in str(found[0.06].dropped)
    assert found[0.6].break_even < 0.1 and str(found[0.6].dropped).startswith("it may save 10.0% of the steps at best")
    assert found[1.5].dropped is None


def test_rows_without_a_label_count_nowhere(fresh: nn.Module) -> None:
    ((inputs, labels),) = batches(1)
    few = (inputs[: ROWS - 50], labels[: ROWS - 50])
    masked = labels.clone()
    masked[ROWS - 50 :] = -100
    logits = linear(3.0)(inputs).detach()
    logits[ROWS - 50 :] = torch.nan
    (all_rows,) = probe(Given(logits), fresh, [(inputs, masked)], timed=False).teachers
    (without,) = probe(linear(3.0), fresh, [few], timed=False).teachers
    for name in ("loss", "accuracy", "temperature", "calibrated_loss"):
        assert getattr(all_rows, name) == pytest.approx(getattr(without, name), rel=1e-6), name
    assert all_rows.dropped is None


def test_maps_of_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4, CLASSES, 5, 6, generator=generator)
    labels = logits.argmax(1)
    student = nn.Conv2d(3, CLASSES, 1)
    (found,) = probe(Given(logits), student, [(torch.randn(4, 3, 5, 6), labels)], class_dim=1, timed=False).teachers
    assert found.accuracy == 1.0 and found.dropped is None


def test_several_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(ROWS, FEATURES, generator=generator)
    labels = (torch.rand(ROWS, CLASSES, generator=generator) < linear(1.0)(inputs).sigmoid()).float()
    labels[:, 1] = -100.0
    found = probe(
        [linear(2.0), Given(torch.zeros(ROWS, CLASSES))],
        nn.Linear(FEATURES, CLASSES),
        [(inputs, labels)],
        head="labels",
    )
    good, flat = found.teachers
    assert found.rows == ROWS * (CLASSES - 1)
    counted = [0, 2, 3]
    expected = F.binary_cross_entropy_with_logits(linear(2.0)(inputs)[:, counted].double(), labels[:, counted].double())
    assert good.loss == pytest.approx(expected.item(), rel=1e-6) and good.dropped is None
    assert good.temperature == pytest.approx(2.0, rel=0.2)
    assert flat.dropped is not None and good.cost is not None


def test_values_have_no_temperature() -> None:
    inputs = torch.randn(ROWS, FEATURES, generator=torch.Generator().manual_seed(0))
    rule = nn.Linear(FEATURES, 1)
    labels = rule(inputs).detach()
    near = Given(labels + 0.1)
    found = probe([near, Given(torch.zeros(ROWS, 1))], nn.Linear(FEATURES, 1), [(inputs, labels)], head="values")
    good, useless = found.teachers
    assert good.loss == pytest.approx(0.01, rel=1e-3) and good.temperature is None and good.accuracy is None
    assert good.dropped is None and useless.dropped is not None
    assert "values have no temperature" in str(found)


def test_several_heads() -> None:
    class Both(nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.one, self.two = linear(scale), linear(scale, seed=1)

        def forward(self, inputs: Tensor) -> dict[str, Tensor]:
            return {"start": self.one(inputs), "end": self.two(inputs)}

    ((inputs, _),) = batches(1)
    generator = torch.Generator().manual_seed(0)
    said: Mapping[str, Tensor] = Both(1.0)(inputs)
    labels = {
        name: torch.multinomial(one.softmax(-1), 1, generator=generator).squeeze(-1) for name, one in said.items()
    }
    torch.manual_seed(0)
    found = probe(Both(3.0), Both(0.01), [(inputs, labels)], forward=lambda model, given: model(given), timed=False)
    (teacher,) = found.teachers
    losses = [F.cross_entropy(one * 3, labels[name]).item() for name, one in said.items()]
    assert teacher.loss == pytest.approx(sum(losses) / 2, rel=1e-5) and teacher.dropped is None
    assert teacher.temperature == pytest.approx(3.0, rel=0.3) and found.rows == 2 * ROWS


def test_logits_that_never_exist_in_full() -> None:
    class Projecting(nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.head = linear(scale)

        def forward(self, inputs: Tensor) -> Any:
            return Projection(inputs, self.head.weight, self.head.bias)

    ((inputs, labels),) = batches(1)
    torch.manual_seed(0)
    (projected,) = probe(Projecting(3.0), Projecting(0.01), [(inputs, labels)], timed=False).teachers
    (plain,) = probe(linear(3.0), linear(0.01), [(inputs, labels)], timed=False).teachers
    assert projected.loss == pytest.approx(plain.loss, rel=1e-6)
    assert projected.temperature == pytest.approx(plain.temperature, rel=1e-6)
    assert projected.cost is not None and plain.cost is not None


@pytest.mark.parametrize(
    ("shown", "options", "error", "message"),
    [
        ([], {}, HeadstartError, "probe: no batches, so there is nothing to look at; give pairs of inputs and labels"),
        (
            [(torch.zeros(4, FEATURES), None)],
            {},
            HeadstartError,
            "judged by labels, and a batch has none",
        ),
        (
            [(torch.zeros(4, FEATURES), torch.full((4,), -100))],
            {},
            HeadstartError,
            "no row of the batches has a label; give batches with labels other than -100",
        ),
        ([(torch.zeros(4, FEATURES), torch.full((4,), 9))], {}, HeadstartError, "a label is 9, and the student has"),
        ([(torch.zeros(4, FEATURES), torch.zeros(4, CLASSES))], {}, HeadstartError, "set head='labels'"),
    ],
)
def test_bad_input(
    fresh: nn.Module, shown: list[Any], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        probe(linear(1.0), fresh, shown, **options)


def test_batches_that_are_no_pairs_and_labels_that_are_no_classes(fresh: nn.Module) -> None:
    ((inputs, labels),) = batches(1)
    with pytest.raises(HeadstartError, match=r"a batch is a Tensor and no pair; give \(inputs, labels\) for each"):
        probe(linear(1.0), fresh, [inputs])  # type: ignore[list-item]
    with pytest.raises(HeadstartError, match=r"labels are torch.float32 of shape \(300,\); give the indices"):
        probe(linear(1.0), fresh, [(inputs, labels.float())])


def test_labels_that_nobody_has_shifted() -> None:
    tokens = torch.randint(5, (2, 4))
    student = nn.Sequential(nn.Embedding(5, 5))
    student.forward = lambda input_ids: student[0](input_ids)  # type: ignore[method-assign]
    labels = tokens.masked_fill(tokens == 2, -100)
    with pytest.raises(HeadstartError, match="the labels are the very tokens of the inputs, and a causal model"):
        probe(nn.Embedding(5, 5), student, [({"input_ids": tokens}, labels)])


def test_teachers_that_cannot_be_looked_at(fresh: nn.Module) -> None:
    with pytest.raises(TeacherError, match="there are no teachers; give at least one"):
        probe(iter([]), fresh, batches())
    with pytest.raises(TeacherError, match=r"shares .* with the student"):
        probe(fresh, fresh, batches())
    with pytest.raises(TeacherError, match="gives logits of shape"):
        probe(nn.Linear(FEATURES, CLASSES + 1), nn.Linear(FEATURES, CLASSES), batches())
    with pytest.raises(TeacherError, match="gives probabilities"):
        probe(nn.Sequential(linear(1.0), nn.Softmax(-1)), nn.Linear(FEATURES, CLASSES), batches())


def test_settings_that_follow(fresh: nn.Module) -> None:
    half = linear(1.0)
    with torch.no_grad():
        half.weight[:, FEATURES // 2 :] = 0.0
    found = probe([linear(3.0), half, Given(torch.zeros(ROWS, CLASSES))], fresh, batches(1), timed=False)
    choice = choose(found)
    best, worse, useless = found.teachers
    expected = round(10 * (worse.speed_up - 1) / (best.speed_up - 1)) / 10
    assert choice.weights == {best.name: 1.0, worse.name: expected, useless.name: 0.0}
    assert 0.0 < expected < 1.0 and choice.asked == (best.name, worse.name)
    assert set(choice.temperatures) == {best.name, worse.name, useless.name}
    assert choice.every == 1 and any("not asked: no better" in reason for reason in choice.reasons)


@pytest.mark.parametrize(("compute", "ahead"), [(None, 1.0), (1.5, 0.5)])
def test_the_window_opens_where_the_noise_of_labels_outweighs_the_cost(compute: float | None, ahead: float) -> None:
    """Of a teacher whose training took 1.5 times the student's compute, where 3 times would do, half is hoped for."""
    shown, student = batches(1), nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, CLASSES))
    flops = probe(linear(1.0), student, shown, timed=False).step_flops
    assert flops is not None
    trained = {} if compute is None else {"Linear": compute * flops}
    found = probe(linear(1.0), student, shown, window=Window(), total_steps=1, trained=trained, timed=False)
    (teacher,) = found.teachers
    assert teacher.brier is not None and teacher.cost is not None
    noise = teacher.cost / (1 + teacher.cost) / ahead  # the share of the labels' pull that it has to spare
    assert teacher.open_at is not None and teacher.open_at == pytest.approx(1.5 * teacher.brier / noise)
    expected = None if teacher.open_at >= 2 else pytest.approx(teacher.open_at, rel=0.005)
    assert choose(found).open_at == expected and (expected is None) == (compute is None)


def test_a_distiller_by_itself(fresh: nn.Module) -> None:
    teacher = linear(3.0)
    chosen = headstart.auto(teacher, fresh, batches(1), total_steps=40, warmup=0.2)
    assert chosen.settings["stop"] == "auto" and chosen.settings["warmup"] == 0.2
    (kept,) = chosen.pool.live
    assert kept.temperature == chosen.choice.temperatures["Linear"] == pytest.approx(3.0, rel=0.2)
    ((inputs, labels),) = batches(1)
    torch.testing.assert_close(kept.logits(inputs), teacher(inputs) / kept.temperature)
    distiller = chosen.distiller()
    logits = fresh(inputs)
    loss = distiller(F.cross_entropy(logits, labels), logits, inputs, labels=labels)
    assert loss.requires_grad
    assert distiller.last is not None and "Distiller(pool, total_steps=40" in str(chosen)


def test_the_teachers_given_stay_as_they_are_and_so_does_how_their_pool_draws(fresh: nn.Module) -> None:
    given = TeacherPool([Teacher(linear(3.0), temperature=2.0)], seed=7, per_rank=True)
    first, again = (headstart.auto(given, fresh, batches(1), total_steps=40) for _ in range(2))
    assert given.live[0].temperature == 2.0
    assert first.pool.live[0].temperature == again.pool.live[0].temperature == pytest.approx(3.0, rel=0.2)
    assert (first.pool.seed, first.pool.per_rank) == (7, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draw": "all"}, "asks 2 teachers a step, and auto reckons with one; give the teachers themselves"),
        ({"weights": [1, 2]}, "has weights of its own, and auto chooses them"),
        ({"residence": "stream"}, "has its teachers elsewhere"),
    ],
)
def test_pools_that_say_themselves_what_is_to_be_chosen(
    fresh: nn.Module, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TeacherError, match=message):
        headstart.auto(TeacherPool([linear(1.0), linear(2.0)], **options), fresh, batches(1), total_steps=40)


def choose_by_own_batches() -> None:
    """Each process looks at batches of its own, of which one sees three times surer logits."""
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    torch.manual_seed(5)
    ((inputs, labels),) = batches(1)
    shown = [((1 + 2 * rank) * inputs, labels)]
    chosen = headstart.auto(linear(3.0), nn.Linear(FEATURES, CLASSES), shown, total_steps=40)
    told = [None] * 2
    torch.distributed.all_gather_object(told, (chosen.settings, chosen.pool.live[0].temperature, str(chosen)))
    assert told[0] == told[1]
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_take_what_the_first_one_has_found() -> None:
    run_together(choose_by_own_batches)


def test_all_dropped_and_the_loop_goes_on(fresh: nn.Module) -> None:
    chosen = headstart.auto(Given(torch.zeros(ROWS, CLASSES)), fresh, batches(1), total_steps=40)
    assert "no teacher is of use: training goes on without distillation" in str(chosen)
    distiller = chosen.distiller()
    ((inputs, labels),) = batches(1)
    task = F.cross_entropy(fresh(inputs), labels)
    assert distiller(task, fresh(inputs), inputs, labels=labels) is task and distiller.closed


def test_a_teacher_s_temperature_divides_its_logits() -> None:
    inputs = torch.randn(3, FEATURES)
    plain = linear(1.0)
    torch.testing.assert_close(Teacher(plain, temperature=2.5).logits(inputs), plain(inputs) / 2.5)
    with pytest.raises(TeacherError, match=r"temperature=0\.0 must be a positive number"):
        Teacher(plain, temperature=0.0)
    with pytest.raises(HeadstartError, match="divides logits, and head='values' has none"):
        Distiller(Teacher(plain, temperature=2.0), total_steps=4, head="values", loss="mse")
    assert math.isclose(TeacherPool([Teacher(plain)]).live[0].temperature, 1.0)


def test_softened_where_classes_are_few_and_believed_where_they_are_many() -> None:
    for classes, temperature, weight in ((100, 4.0, 0.5), (101, 1.0, 0.9)):
        found = probe(Given(torch.zeros(ROWS, classes)), nn.Linear(FEATURES, classes), batches(1), timed=False)
        choice = choose(found)
        assert (found.outputs, choice.temperature, choice.weight) == (classes, temperature, weight)
    inputs, student = torch.randn(ROWS, FEATURES), nn.Linear(FEATURES, 101)
    found = probe(Given(torch.zeros(ROWS, 101)), student, [(inputs, torch.zeros(ROWS, 101))], head="labels")
    assert choose(found).weight == 0.5  # of many labels each is its own question
    sure = nn.Linear(FEATURES, 101)
    sure.weight.data *= 30.0
    shown = [(inputs, sure(inputs).argmax(-1))]
    assert choose(probe([sure, Given(torch.zeros(ROWS, 101))], student, shown)).weight == 0.5  # the best one is sure
    chosen = headstart.auto(sure, student, shown, total_steps=40)
    assert (chosen.settings["weight"], chosen.settings["temperature"]) == (0.5, 1.0)
    assert "T of the loss: 1, as there are 101 classes; its weight: 0.5, as labels are not mostly noise" in str(chosen)


@pytest.mark.parametrize(("classes", "asked"), [(100, False), (101, True)])
def test_of_the_student_s_own_compute_is_enough_where_classes_are_many(classes: int, asked: bool) -> None:
    """Alone it may save 1/6 of the steps and must save 1/4; in the first half, where it is ahead, 1/4 against 1/7."""

    def network() -> nn.Sequential:
        return nn.Sequential(nn.Linear(FEATURES, 512), nn.ReLU(), nn.Linear(512, classes))

    torch.manual_seed(0)
    student, teacher, inputs = network(), network(), torch.randn(ROWS, FEATURES)
    last = teacher[2]
    assert isinstance(last, nn.Linear)
    last.weight.data *= 6.0
    shown = [(inputs, torch.multinomial(teacher(inputs).softmax(-1), 1)[:, 0])]  # it knows, and they are noisy
    flops = probe(teacher, student, shown, timed=False).step_flops
    options: dict[str, Any] = {"window": Window(), "total_steps": 10, "timed": False, "in_full": False}
    found = probe(teacher, student, shown, trained={"Sequential": 10.0 * (flops or 0)}, **options)
    assert (found.rows > 0) == asked and found.outputs == classes
    (one,) = found.teachers
    assert found.share == 1.0 and one.until == (0.5 if asked else 1.0)
    assert one.break_even == pytest.approx(1 / 7 if asked else 1 / 4, rel=0.05)
    assert one.saving == pytest.approx(1 / 4 if asked else 1 / 6)
    assert choose(found, {one.name: 1.0}).cap == one.until


def test_nobody_is_asked_where_none_can_be_worth_it(fresh: nn.Module) -> None:
    """Where one can all are, as what others know is told by the best of them."""

    class Asked(nn.Linear):
        forwards = 0

        def forward(self, inputs: Tensor) -> Tensor:
            if inputs.device.type != "meta":  # where FLOPs are counted
                Asked.forwards += 1
            return super().forward(inputs)

    short, long = Asked(FEATURES, CLASSES), Asked(FEATURES, CLASSES)
    short.load_state_dict(linear(1.0).state_dict())
    options: dict[str, Any] = {"total_steps": 100, "timed": False}
    for teachers in (short, [short, short]):
        options["trained"] = dict.fromkeys(("Asked", "Asked #1", "Asked #2"), 1.0)
        found = probe(teachers, fresh, batches(), in_full=False, **options)
        assert Asked.forwards == 0 and (found.rows, found.chance_loss, found.student_loss) == (0, None, None)
        assert "they pass such a teacher soon" in str(found) and "nothing was asked, as no" in str(found)
        assert choose(found).asked == () and found.teachers[0].cost is not None
        assert found.to_dict()["teachers"][0]["loss"] is None
    options["trained"] = {"Asked #1": 1e12, "Asked #2": 1.0}  # the second one is not even turned to before
    assert probe([short, long], fresh, batches(), in_full=False, **options).rows == 2 * ROWS
    options["trained"] = {"Asked #1": 1.0, "Asked #2": 1e12}
    both = probe([short, long], fresh, batches(), in_full=False, **options)
    assert both == probe([short, long], fresh, batches(), **options) and both.rows == 2 * ROWS


def test_several_labels_are_judged_by_the_window_that_they_get() -> None:
    teacher, student = linear(1.0), linear(0.0)
    inputs = torch.randn(ROWS, FEATURES)
    chosen = headstart.auto(teacher, student, [(inputs, (teacher(inputs) > 0).float())], total_steps=40, head="labels")
    assert chosen.settings["stop"] == chosen.distiller().window.stop == chosen.probe.share == 0.5


def test_weights_that_are_set_are_those_that_a_window_waits_by(fresh: nn.Module) -> None:
    half = linear(1.0)
    with torch.no_grad():
        half.weight[:, FEATURES // 2 :] = 0.0
    found = probe(
        [linear(1.0), half, Given(torch.zeros(ROWS, CLASSES))], fresh, batches(1), window=Window(), timed=False
    )
    names = [teacher.name for teacher in found.teachers]
    for weights in ((1.0, 1.0, 8.0), (1.0, 3.0, 30.0)):
        choice = choose(found, dict(zip(names, weights, strict=True)))
        scores = [teacher.open_at or 0.0 for teacher in found.teachers]
        mean = sum(weight * score for weight, score in zip(weights, scores, strict=True)) / sum(weights)
        assert choice.asked == tuple(names) and any("though of no use" in reason for reason in choice.reasons)
        assert choice.open_at == (pytest.approx(mean, rel=0.005) if mean < 2 else None)
    useless = choose(found, {**dict.fromkeys(names, 0.0), names[2]: 1.0})
    assert useless.open_at == 0.001  # it stays shut, and is not open at once
