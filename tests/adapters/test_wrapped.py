"""A student that something is wrapped around is distilled as it is without."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from headstart import Distiller
from headstart.errors import HeadstartError, TeacherError

STEPS = 6
INPUTS = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(8) % 5


@pytest.fixture
def _one_process(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone, of which nothing is left afterwards."""
    AcceleratorState._reset_state(reset_partial_state=True)
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()
    AcceleratorState._reset_state(reset_partial_state=True)


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5))


def fully_sharded(model: nn.Module) -> nn.Module:
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    return model


def trained(wrap: Callable[[nn.Module], Any]) -> list[Tensor]:
    """The student's weights after some steps, of which half are distilled."""
    model = wrap(network(seed=0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    distiller = Distiller([network(seed=1), network(seed=2)], total_steps=STEPS)
    for _ in range(STEPS):
        logits = model(INPUTS)
        torch.autograd.backward(distiller(F.cross_entropy(logits, LABELS), logits, INPUTS))
        optimizer.step()
        optimizer.zero_grad()
        distiller.step()
    weights = [parameter.detach() for parameter in model.parameters()]
    return [weight.full_tensor() if isinstance(weight, DTensor) else weight for weight in weights]


@pytest.mark.usefixtures("_one_process")
@pytest.mark.parametrize("wrap", [DistributedDataParallel, fully_sharded], ids=["ddp", "fsdp"])
def test_distributed(wrap: Callable[[nn.Module], Any]) -> None:
    torch.testing.assert_close(trained(wrap), trained(lambda model: model))


def test_compiled() -> None:
    """By torch.compile without its code generator, which would take most of a minute."""
    compiled = trained(lambda model: torch.compile(model, backend="eager", fullgraph=True))
    torch.testing.assert_close(compiled, trained(lambda model: model))


@pytest.mark.usefixtures("_one_process")
@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: model,
        DistributedDataParallel,
        fully_sharded,
        lambda model: torch.compile(model, backend="eager"),
        lambda model: Accelerator(cpu=True).prepare(model),
    ],
    ids=["bare", "ddp", "fsdp", "compiled", "accelerate"],
)
def test_a_teacher_that_is_the_student_is_refused(wrap: Callable[[nn.Module], Any]) -> None:
    """However it is wrapped: none of its weights is left to train."""
    model = network(seed=0)
    student = wrap(model)
    distiller = Distiller(model, total_steps=STEPS)
    logits = student(INPUTS)
    with pytest.raises(HeadstartError, match=r"logits have no gradient.*make the teacher of copy.deepcopy\(model\)"):
        distiller(F.cross_entropy(logits, LABELS), logits, INPUTS)
    with pytest.raises(HeadstartError, match="logits have no gradient"):
        distiller.loss(logits, LABELS, INPUTS)
    with torch.no_grad():  # in evaluation that is as it should be
        assert distiller(logits.sum(), logits, INPUTS) == logits.sum()


class TestPeft:
    """A student of which only the adapters are trained."""

    @pytest.fixture
    def student(self) -> Any:
        peft = pytest.importorskip("peft", reason="needs peft")
        pytest.importorskip("transformers", reason="needs transformers: pip install headstart[trainer]")
        pytest.importorskip("lightning", reason="the loops it shares helpers with need lightning")
        from tests.adapters.tiny_models import model

        torch.manual_seed(0)
        adapter = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        return peft.get_peft_model(model("llama"), adapter)

    def test_gradient_is_that_of_the_loss_by_hand(self, student: Any, tmp_path: Path) -> None:
        from tests.adapters.by_hand import OPEN, gradient_by_hand, moved, run, stacked
        from tests.adapters.tiny_models import model, rows

        teacher, data = model("llama", seed=5), rows("llama", 4)
        expected = gradient_by_hand(student, teacher.eval(), stacked(data), causal=True)
        before = copy.deepcopy(student)
        run(student, data, tmp_path, teachers=teacher, distill=OPEN)
        torch.testing.assert_close(moved(before, student), expected, rtol=1e-4, atol=1e-5)

    def test_its_own_base_cannot_teach_it(self, student: Any, tmp_path: Path) -> None:
        from tests.adapters.by_hand import run
        from tests.adapters.tiny_models import rows

        with pytest.raises(TeacherError, match="'LlamaForCausalLM' is the student itself"):
            run(student, rows("llama", 4), tmp_path, teachers=student.get_base_model())
