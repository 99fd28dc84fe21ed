"""The doctor on whole set-ups: a healthy one passes, and each way to break it is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import headstart
from headstart.distill import Teacher, TeacherPool, Window
from headstart.distill.inputs import renormalise
from headstart.distill.targets.source import TargetSource
from headstart.errors import HeadstartError
from headstart.teachers.doctor import Check, doctor

CLASSES, SIZE = 4, 6
LEVELS = torch.tensor([0.2, 0.4, 0.6, 0.8]).view(CLASSES, 1, 1, 1)  # of brightness: each class has one
MEAN, STD = [0.2, 0.2, 0.2], [0.1, 0.1, 0.1]


def batch(rows: int = 96, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images of known classes, as a student with MEAN and STD is given them."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % CLASSES
    images = LEVELS[labels] + 0.3 * torch.randn(rows, 3, SIZE, SIZE, generator=generator)
    return (images - 0.2) / 0.1, labels


class Net(nn.Module):
    """A convolution, a batch norm and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, SIZE, bias=False), nn.BatchNorm2d(16)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.head(torch.relu(self.norm(self.conv(images))).flatten(1))
        return output


def trained(change: Callable[[Tensor], Tensor] = lambda images: images) -> Net:
    """A net that has learnt the classes, from images changed in some way."""
    torch.manual_seed(2)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for step in range(40):
        images, labels = batch(seed=100 + step)
        loss = F.cross_entropy(net(change(images)), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return net


@pytest.fixture(scope="module")
def good() -> Net:
    return trained()


def examine(teachers: Any, model: nn.Module | None = None, **options: Any) -> dict[str, Check]:
    """The checks of one teacher, by name."""
    torch.manual_seed(0)
    found = doctor(model or Net(), teachers, [batch(), batch(seed=1)], normalisation=(MEAN, STD), **options)
    return {check.name: check for check in found}


def failing(found: dict[str, Check]) -> set[str]:
    return {name for name, check in found.items() if check.status == "fail"}


def test_a_healthy_setup_passes(good: Net) -> None:
    found = examine(Teacher(good, name="old"))
    timed = found.pop("cost"), found.pop("memory")  # depend on the machine
    assert {name: check.status for name, check in found.items()} == dict.fromkeys(found, "pass")
    expected = "label range, separate, frozen, classes, finite, labels, better than the student, normalisation"
    assert list(found) == [*expected.split(", "), "loss at agreement", "micro-batches"]
    assert found["labels"].teacher == "old" and timed[0].teacher == found["label range"].teacher == ""


def test_it_is_there_by_its_short_name(good: Net) -> None:
    assert headstart.doctor is doctor


def test_student_and_random_numbers_are_left_as_they_were(good: Net) -> None:
    model = Net().train()
    model.norm.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    doctor(model, good, [batch()], normalisation=(MEAN, STD))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training and not model.norm.training and all(p.grad is None for p in model.parameters())
    assert not any(module.training for module in good.modules())


def test_the_student_itself_is_no_teacher(good: Net) -> None:
    found = examine(good, model=good)
    assert "shares" in found["separate"].finding and failing(found) >= {"separate"}


def test_a_teacher_of_other_classes() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, CLASSES + 2))
    found = examine(model)
    assert failing(found) == {"classes"} and "`classes`" in found["classes"].advice
    assert "cost" not in found


def test_a_teacher_whose_forward_fails() -> None:
    found = examine(Teacher(nn.Linear(5, 3), name="old"))
    assert failing(found) == {"forward"} and "in the forward of teacher 'old'" in found["forward"].finding


def test_classes_in_another_order_are_named(good: Net) -> None:
    found = examine(Teacher(good, classes=[1, 2, 3, 0]))
    assert failing(found) >= {"labels"} and "another order" in found["labels"].advice


def test_a_teacher_worse_than_the_untrained_student(good: Net) -> None:
    found = examine(Teacher(good, classes=[3, 2, 1, 0]))
    assert found["better than the student"].status == "fail"


def test_a_teacher_that_knows_nothing() -> None:
    torch.manual_seed(3)
    found = examine(Net())
    assert found["labels"].status != "pass" and found["better than the student"].status != "pass"


def test_a_constant_teacher_agrees_no_more_than_by_chance() -> None:
    class Constant(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([0.0, 3.0, 0.0, 0.0]).expand(len(images), CLASSES)

    assert examine(Constant())["labels"].finding == "agrees with 25.0% of the labels, by chance it would be 25.0%"


def test_a_teacher_that_was_trained_on_other_normalisation() -> None:
    """It was trained on values from 0 to 1, and is given the student's images."""
    raw = trained(lambda images: images * 0.1 + 0.2)
    found = examine(Teacher(raw))["normalisation"]
    assert found.status == "fail" and "given values from 0 to 1" in found.finding and "`mean`" in found.advice
    healed = Teacher(raw, prepare=renormalise((MEAN, STD), ([0.0] * 3, [1.0] * 3)))
    assert examine(healed)["normalisation"].status == "pass"


def test_without_images_normalisation_is_no_matter(good: Net) -> None:
    model, inputs = nn.Linear(2, 3), torch.randn(32, 2)
    found = doctor(model, nn.Linear(2, 3), [(inputs, inputs.argmax(-1))], normalisation=([0.5], [0.5]))
    assert "normalisation" not in {check.name for check in found}


class Drifting(nn.Module):
    """Counts its forwards in a buffer."""

    count: Tensor

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("count", torch.zeros(()))

    def forward(self, images: Tensor) -> Any:
        self.count += 1
        return self.inner(images)


class Random(Drifting):
    """Drops out in eval mode as well."""

    def forward(self, images: Tensor) -> Any:
        return self.inner(F.dropout(images, 0.5))


class Relapsing(Drifting):
    """Goes back to train mode."""

    def forward(self, images: Tensor) -> Any:
        self.inner.norm.train()  # type: ignore[union-attr]
        return self.inner(images)


@pytest.mark.parametrize(
    ("kind", "finding"), [(Drifting, "changes count"), (Random, "differ by"), (Relapsing, "the first: inner.norm")]
)
def test_a_teacher_that_is_not_frozen(kind: type[Drifting], finding: str) -> None:
    found = examine(kind(trained()))["frozen"]
    assert found.status == "fail" and finding in found.finding


def test_non_finite_outputs(good: Net) -> None:
    class Broken(Drifting):
        def forward(self, images: Tensor) -> Any:
            return self.inner(images).index_fill(0, torch.tensor([3]), torch.nan)

    found = examine(Broken(good))
    assert failing(found) == {"finite"} and "in 2 of 192 rows" in found["finite"].finding


def test_labels_that_are_no_classes(good: Net) -> None:
    images, labels = batch()
    found = doctor(Net(), good, [(images, labels + 1)])
    assert found[0].name == "label range" and found[0].status == "fail"
    with pytest.raises(HeadstartError, match="no row of the batches has a label"):
        doctor(Net(), good, [(images, torch.full_like(labels, -100))])


def test_no_batches(good: Net) -> None:
    with pytest.raises(HeadstartError, match="doctor: no batches"):
        doctor(Net(), good, [])


def test_a_student_without_logits(good: Net) -> None:
    class Silent(nn.Module):
        def forward(self, images: Tensor) -> None:
            return None

    with pytest.raises(HeadstartError, match="the student's forward gave no logits"):
        doctor(Silent(), good, [batch()])


@pytest.mark.parametrize("loss", ["kl", "reverse_kl", "jsd", "mse", "dkd", "dist"])
def test_every_loss_is_zero_at_agreement_and_only_dist_minds_how_a_batch_is_cut(loss: str, good: Net) -> None:
    found = examine(good, loss=loss)
    assert found["loss at agreement"].status == "pass"
    assert found["micro-batches"].status == ("warn" if loss == "dist" else "pass")


def cross_entropy(student: Tensor, teacher: Tensor, *, temperature: float, labels: Tensor | None) -> Tensor:
    """Soft cross-entropy, as some libraries have it: right in the gradient, but not 0 at agreement."""
    return -(teacher.softmax(-1) * student.log_softmax(-1)).sum(-1)


def to_the_labels(student: Tensor, teacher: Tensor, *, temperature: float, labels: Tensor | None) -> Tensor:
    """No distillation at all."""
    assert labels is not None
    return F.cross_entropy(student, labels, reduction="none")


@pytest.mark.parametrize(("loss", "status"), [(cross_entropy, "warn"), (to_the_labels, "fail")])
def test_a_loss_that_is_not_zero_at_agreement(loss: Any, status: str, good: Net) -> None:
    assert examine(good, loss=loss)["loss at agreement"].status == status


def test_parts_are_taken_where_a_batch_cannot_be_cut(good: Net) -> None:
    """Inputs whose tensors have different numbers of rows, as those of masked language modelling."""

    class Picking(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, images: Tensor, rows: Tensor) -> Any:
            return self.net(images)[rows]

    images, labels = batch(rows=32)
    rows = torch.arange(0, 32, 2)
    whole = ({"images": images, "rows": rows}, labels[rows])
    parts = [
        ({"images": images[:16], "rows": rows[:8]}, labels[:16:2]),
        ({"images": images[16:], "rows": rows[:8]}, labels[16::2]),
    ]
    student, teacher = Picking(Net()), Picking(good)
    assert "micro-batches" not in {check.name for check in doctor(student, teacher, [whole])}
    statuses = {check.name: check.status for check in doctor(student, teacher, [whole], parts=parts)}
    assert statuses["micro-batches"] == "pass"
    halved = {check.name: check.status for check in doctor(student, teacher, [whole], parts=parts[:1])}
    assert halved["micro-batches"] == "warn"


def test_each_teacher_of_a_pool_is_named_and_costs_follow_draw_and_window(good: Net, monkeypatch: Any) -> None:
    monkeypatch.setattr("headstart.teachers.doctor.trials.step_seconds", lambda *_: (0.2, [0.1, 0.3]))
    pool = TeacherPool([Teacher(good, name="a"), Teacher(trained(), name="b")], draw="all")
    found = doctor(Net(), pool, [batch()], window=Window(stop=0.5, every=2))
    assert [check.teacher for check in found if check.name == "labels"] == ["a", "b"]
    (cost,) = [check for check in found if check.name == "cost"]
    assert "teachers' forward 400.0 ms, student's step 200.0 ms (rho 2.00); 25% of steps" in cost.finding


def test_a_cache_of_targets_cannot_be_asked(good: Net) -> None:
    class Cached(TargetSource):
        name = "kept"

        def targets(self, inputs: Any, keys: Any = None) -> Tensor:
            raise AssertionError("not for these inputs")

        def check(self, use: Any) -> None:
            """Good for everything."""

        def to(self, device: torch.device) -> None:
            """Wherever it is wanted."""

    found = doctor(Net(), [Cached(), Teacher(good, name="live")], [batch()])
    assert [(check.teacher, check.status) for check in found if check.name == "at hand"] == [("kept", "warn")]
    assert [check.teacher for check in found if check.name == "labels"] == ["live"]


def test_a_vocabulary_and_a_mapping_of_inputs() -> None:
    """Logits for each token, as language models have them; rows without a label do not count."""

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(11, 11)

        def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
            return {"logits": self.table(input_ids)}

    teacher, student = Tokens(), Tokens()
    teacher.table.weight.data = 5 * torch.eye(11).roll(1, 1)
    ids = torch.randint(11, (8, 20))
    labels = torch.where(torch.rand(8, 20) < 0.5, (ids + 1) % 11, -100)
    found = {check.name: check for check in doctor(student, teacher, [({"input_ids": ids}, labels)])}
    assert not failing(found) and found["labels"].finding.startswith("agrees with 100.0%")
    assert found["micro-batches"].status == "pass"


def found_by(labels: Any, teacher: nn.Module, student: nn.Module | None = None, **settings: Any) -> dict[str, str]:
    """The checks that do not pass, timing left out."""
    torch.manual_seed(0)
    checks = doctor(student or nn.Linear(4, 3), teacher, [(torch.randn(64, 4), labels)], **settings)
    return {check.name: check.finding for check in checks if check.status != "pass" and check.name != "cost"}


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.rand(64) * 5, "labels are torch.float32 of shape [64]: scores or several labels"),
        (torch.ones(64, 3), "labels are torch.float32 of shape [64, 3]"),
        ({"boxes": torch.rand(64, 4)}, "labels are a dict, no tensor of class indices"),
        ([{"boxes": torch.rand(64, 4)}], "labels are a list, no tensor of class indices"),
        (torch.zeros(64, 1, dtype=torch.int64), "labels of shape [64, 1] do not fit logits of shape [64, 3]"),
    ],
)
def test_labels_that_are_no_classes_are_a_finding(labels: Any, words: str) -> None:
    assert words in found_by(labels, nn.Linear(4, 3))["labels"]


def test_one_output_is_a_finding() -> None:
    found = found_by(torch.zeros(64, dtype=torch.int64), nn.Linear(4, 1), nn.Linear(4, 1))
    assert "a softmax over one class is 1" in found["outputs"]
    assert "outputs" not in found_by(torch.rand(64), nn.Linear(4, 1), nn.Linear(4, 1), head="values", loss="mse")


def test_probabilities_are_a_finding() -> None:
    teacher = nn.Sequential(nn.Linear(4, 3), nn.Softmax(-1))
    assert "these are probabilities" in found_by(torch.randint(3, (64,)), teacher)["logits"]


class Broken(nn.Module):
    """Gives NaN for the rows that its input marks."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.where(inputs[:, :1] > 0, inputs[:, :3], torch.nan)


def test_rows_without_a_label_may_be_anything() -> None:
    inputs = torch.randn(64, 4)
    labels = torch.randint(3, (64,))
    hidden = torch.where(inputs[:, 0] > 0, labels, -100)
    for given, status in ((hidden, "pass"), (labels, "fail")):
        checks = doctor(nn.Linear(4, 3), Broken(), [(inputs, given)])
        assert [check.status for check in checks if check.name == "finite"] == [status]


class Answering(nn.Module):
    """Gives the start and the end of an answer."""

    def __init__(self, knows: bool = False) -> None:
        super().__init__()
        self.start, self.end = nn.Linear(4, 4), nn.Linear(4, 4)
        if knows:
            for layer, turn in ((self.start, 0), (self.end, 1)):
                layer.weight.data, layer.bias.data = 9 * torch.eye(4).roll(turn, 0), torch.zeros(4)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        return {"start_logits": self.start(inputs), "end_logits": self.end(inputs)}


def test_each_of_several_heads_is_examined() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(64, 4)
    start = inputs.argmax(-1)
    labels = {"start_logits": start, "end_logits": (start + 1) % 4}
    found = doctor(Answering(), Answering(knows=True), [(inputs, labels)])
    assert not [check for check in found if check.status == "fail"]
    assert [check.finding[:24] for check in found if check.name == "labels"] == [
        "start_logits: agrees wit",
        "end_logits: agrees with ",
    ]
    assert {"loss at agreement", "micro-batches", "cost"} <= {check.name for check in found}
    swapped = {"start_logits": labels["end_logits"], "end_logits": labels["start_logits"]}
    wrong = doctor(Answering(), Answering(knows=True), [(inputs, swapped)])
    assert [check.status for check in wrong if check.name == "labels"] == ["fail", "fail"]
    assert {check.status for check in doctor(Answering(), Answering(), [(inputs, None)]) if check.name == "labels"} == {
        "warn"
    }


@pytest.mark.parametrize(("head", "loss"), [("labels", "kl"), ("values", "mse")])
def test_losses_and_costs_of_other_heads(head: Any, loss: str) -> None:
    torch.manual_seed(0)
    labels = torch.rand(64, 3).round()
    labels[0, 0] = -100
    found = doctor(nn.Linear(4, 3), nn.Linear(4, 3), [(torch.randn(64, 4), labels)], head=head, loss=loss)
    statuses = {check.name: check.status for check in found}
    assert statuses["loss at agreement"] == statuses["micro-batches"] == "pass"
    assert "cost" in statuses and "labels" not in statuses


def test_a_student_that_writes_into_its_inputs_is_a_finding() -> None:
    class Writing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            output: Tensor = self.layer(inputs.mul_(2.0))
            return output

    inputs = torch.randn(64, 4)
    before = inputs.clone()
    found = {check.name: check for check in doctor(Writing(), nn.Linear(4, 3), [(inputs, torch.randint(3, (64,)))])}
    assert found["inputs"].status == "fail" and "(Writing) changes its inputs in place" in found["inputs"].finding
    assert torch.equal(inputs, before)


def test_bf16_in_software_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def slow(kind: str, _: torch.device) -> str:
        asked.append(kind)
        return "slow" if kind == "bf16" else ""

    monkeypatch.setattr("headstart.teachers.doctor.one_teacher.slow_bf16", slow)
    batches = [(torch.randn(64, 4), torch.randint(3, (64,)))]
    for teacher in (Teacher(nn.Linear(4, 3), dtype=torch.bfloat16), nn.Linear(4, 3).bfloat16(), nn.Linear(4, 3)):
        found = [check.finding for check in doctor(nn.Linear(4, 3), teacher, batches) if check.name == "precision"]
        assert found == (["slow"] if asked[-1] == "bf16" else [])
    assert asked == ["bf16", "bf16", "fp32"]
