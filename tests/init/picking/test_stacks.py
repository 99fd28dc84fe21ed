"""Models of no known family with more or fewer layers than the source."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headstart.errors import InitError
from headstart.init import init_from
from tests.init.models import of, stirred

ROWS = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inside, self.norm = nn.Linear(width, width), nn.BatchNorm1d(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.norm(self.inside(x)))


class Deep(nn.Module):
    def __init__(self, layers: int, width: int = 8, *, special: bool = False) -> None:
        super().__init__()
        self.read, self.out = nn.Linear(6, width), nn.Linear(width, 3)
        self.layers = nn.ModuleList(Layer(width) for _ in range(layers))
        if special:
            self.layers[0].extra = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.read(x)
        for layer in self.layers:
            x = layer(x)
        result: Tensor = self.out(x)
        return result


def test_fewer_layers_are_strided() -> None:
    source, student = stirred(Deep(7)), Deep(3)
    inherited = init_from(student, source)
    assert inherited.share == 1 and inherited.indices == {"layers": (0, 3, 6)} and inherited.ways == ("select",)
    assert torch.equal(of(student, "layers.1.inside.weight"), of(source, "layers.3.inside.weight"))
    assert torch.equal(of(student, "layers.2.norm.running_mean"), of(source, "layers.6.norm.running_mean"))
    assert init_from(student, source, scores="first").indices == {"layers": (0, 1, 2)}
    assert init_from(student, dict(source.state_dict())).indices == {"layers": (0, 3, 6)}
    assert init_from(nn.DataParallel(student), source).indices == {"layers": (0, 3, 6)}


def test_layers_and_width_together() -> None:
    source, student = stirred(Deep(4)), Deep(2, 4)
    indices = init_from(student, source).indices
    assert indices == {"8 to 4": (0, 2, 4, 6), "layers": (0, 3)}
    assert torch.equal(of(student, "layers.1.inside.weight"), of(source, "layers.3.inside.weight")[::2, ::2])


def test_more_layers_are_the_stack_repeated() -> None:
    source, student = stirred(Deep(2)), Deep(4)
    inherited = init_from(student, source, batches=[ROWS])
    assert inherited.share == 1 and inherited.indices == {"layers": (0, 1, 0, 1)} and inherited.ways == ("grow",)
    assert inherited.notes == ("layers: 4 layers out of 2, stacked: outputs are not preserved",)


def test_layers_that_are_not_alike_are_told() -> None:
    source, student = stirred(Deep(4, special=True)), Deep(2, special=True)
    inherited = init_from(student, source)
    assert "layers: 2 numbered parts here, 4 in the source, which are not all alike" in inherited.notes[0]
    assert torch.equal(of(student, "layers.1.inside.weight"), of(source, "layers.1.inside.weight"))


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize(("how", "old", "new"), [("copy", 4, 2), ("copy", 2, 4), ("select", 2, 4), ("grow", 4, 2)])
def test_how_counts_layers_too(how: str, old: int, new: int, special: bool) -> None:
    with pytest.raises(InitError, match=f"but the number of layers in layers is {old} in the source and {new} in the"):
        init_from(Deep(new, special=special), Deep(old, special=special), how)


def test_shrink_is_for_the_same_depth() -> None:
    with pytest.raises(InitError, match="for a source of the student's shape, and this one has another"):
        init_from(Deep(2), Deep(4), shrink=0.4, perturb=0.1)


def test_statistics_are_taken_anew_where_layers_are_left_out() -> None:
    source, student = stirred(Deep(4)), Deep(2)
    assert init_from(student, source, batches=[ROWS]).notes == ("BatchNorm: statistics taken anew from the batches",)
    student.eval()
    with torch.no_grad():
        seen = student.get_submodule("layers.0.inside")(student.read(ROWS))
    assert torch.allclose(of(student, "layers.0.norm.running_mean"), seen.mean(0), atol=1e-6)
    assert "give batches to take them anew" in init_from(Deep(2), source).notes[-1]


def test_layers_of_the_kind_that_the_student_has() -> None:
    def config(*kinds: str) -> Any:
        return SimpleNamespace(layer_types=list(kinds))

    inherited = init_from(
        Deep(2), Deep(4), source_config=config("all", "near", "near", "all"), student_config=config("all", "near")
    )
    assert inherited.indices == {"layers": (0, 2)}
