"""Models of no known family whose axes have parts that no size shows: told, and checked where there are batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from headstart.init import init_from
from headstart.init.picking.by_size import UNSEEN
from tests.init.models import assert_same_outputs, assert_same_weights, outputs, stirred

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
ROWS = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))


class Joined(nn.Module):
    """A U-Net of two levels: what comes up is put beside what was there, 2 * width channels in all."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 2 * width, 3, 2, padding=1)
        self.up, self.out = nn.ConvTranspose2d(2 * width, width, 2, 2), nn.Conv2d(2 * width, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        there = torch.relu(self.stem(x))
        up = self.up(torch.relu(self.down(there)))
        result: Tensor = self.out(torch.cat([torch.sin(up), there], 1))
        return result


class Gated(nn.Module):
    """A gated unit in halves of one layer, beside an MLP as wide as both halves."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.read, self.gate, self.out = nn.Linear(6, width), nn.Linear(width, 2 * width), nn.Linear(width, 3)
        self.first, self.second = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.read(x))
        one, other = self.gate(x).chunk(2, dim=-1)
        x = x + one * torch.sigmoid(other)
        result: Tensor = self.out(x + self.second(torch.relu(self.first(x))))
        return result


def plain(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 3))


CASES = {"joined": (Joined, IMAGES), "gated": (Gated, ROWS)}


@pytest.mark.parametrize("case", CASES)
def test_parts_that_no_size_shows_are_told(case: str) -> None:
    build, _ = CASES[case]
    for student, source in ((build(8), build(4)), (build(4), build(8))):
        inherited = init_from(student, source)
        assert inherited.share == 1 and inherited.notes == (UNSEEN,)
        assert "headstart doctor" in inherited.table()


@pytest.mark.parametrize("case", CASES)
def test_a_growth_is_checked_on_a_batch(case: str) -> None:
    build, batch = CASES[case]
    source, student = stirred(build(4)), build(8)
    (note,) = init_from(student, source, batches=[batch]).notes
    off, largest = (outputs(student, batch) - outputs(source, batch)).abs().max(), outputs(source, batch).abs().max()
    assert off > 0.01 * largest
    told = f"the student's outputs are off by up to {off:.2g}, where the source's go up to {largest:.2g}: it does not"
    assert note.startswith(f"checked on a batch: {told}")


def test_a_growth_that_keeps_the_outputs_says_that_it_was_checked() -> None:
    source, student = stirred(plain(4)), plain(8).train()
    assert init_from(student, source, batches=[(ROWS, None)]).notes == (
        "checked on a batch: the student gives the source's outputs",
    )
    assert student.training
    assert_same_outputs(student, source, ROWS)


def test_what_is_no_whole_multiple_or_only_planned_is_not_checked() -> None:
    assert init_from(plain(6), plain(4), batches=[ROWS]).notes == (UNSEEN,)
    assert init_from(plain(8), plain(4), batches=[ROWS], writing="nothing").notes == (UNSEEN,)
    assert init_from(plain(8), dict(plain(4).state_dict()), batches=[ROWS]).notes == (UNSEEN,)
    assert init_from(plain(4), plain(4)).notes == ()


def test_a_check_that_fails_leaves_the_student_as_it_was() -> None:
    student, same = plain(8), plain(8)
    same.load_state_dict(student.state_dict())
    with pytest.raises(RuntimeError):
        init_from(student, plain(4), batches=[torch.zeros(2, 7)])
    assert_same_weights(student, same)


def test_outputs_of_several_parts_and_infinite_ones_are_compared() -> None:
    class Several(nn.Module):
        def __init__(self, width: int, scale: float = 1.0) -> None:
            super().__init__()
            self.net, self.scale = plain(width), scale

        def forward(self, x: Tensor) -> dict[str, object]:
            y = self.net(x)
            return {"masked": torch.full_like(y, float("-inf")), "found": [y * self.scale], "numbers": y.argmax()}

    source = stirred(Several(4))
    (note,) = init_from(Several(8), source, batches=[ROWS]).notes
    assert note == "checked on a batch: the student gives the source's outputs"
    (note,) = init_from(Several(4, 2.0), source, batches=[ROWS]).notes
    assert note.startswith("checked on a batch: the student's outputs are off by up to ")
