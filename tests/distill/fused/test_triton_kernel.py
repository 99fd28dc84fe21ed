"""The Triton kernel against plain torch: in Triton's interpreter on the CPU, and on a GPU where there is one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from headstart.distill import build_objective, cross_entropy, fused_loss
from headstart.distill.fused import cuda, rows
from headstart.distill.fused.terms import Rows, Terms

Make = Callable[..., Tensor]
LABELS = torch.tensor([3, -100, 0, 2, 1])
KEEP = torch.tensor([True, True, True, False, True])

# Whether Triton interprets is said before the first kernel is defined, and holds for the whole process.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not INTERPRETED, reason="runs in the process that test_in_the_interpreter starts")

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="is there already")
def test_in_the_interpreter(pytestconfig: pytest.Config) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "same or no_class", __file__]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, cwd=pytestconfig.rootpath, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "15 passed" in done.stdout


def _rows(classes: int, dtype: torch.dtype, logits: Make, *, teacher: bool, keep: Tensor | None) -> Rows:
    student, target = logits(5, classes, scale=4.0).to(dtype), logits(5, classes, scale=4.0).to(dtype)
    student[2, 1], target[2, 1], student[0, 3] = 40.0, 40.0, 50.0  # an agreement, and a label that is the top class
    if keep is not None:
        target[~keep, 2] = torch.nan
    return Rows(student, [target] if teacher else [], LABELS, keep)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # infinities outside the row, which are not used
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("classes", "temperature", "smoothing", "teacher", "keep"),
    [
        (7, 4.0, 0.1, True, KEEP),
        (4096, 1.0, 0.0, True, None),
        (5000, 2.0, 0.0, True, KEEP),
        (5000, 2.0, 0.1, False, None),
    ],
    ids=["one block", "a whole block", "two blocks", "the task loss alone"],
)
@interpreted
def test_is_the_same_as_plain_torch(
    classes: int,
    temperature: float,
    smoothing: float,
    teacher: bool,
    keep: Tensor | None,
    dtype: torch.dtype,
    logits: Make,
) -> None:
    given = _rows(classes, dtype, logits, teacher=teacher, keep=keep)
    objective = build_objective("kl", temperature) if teacher else None
    terms, factors = Terms(objective, (1.0,) if teacher else (), smoothing), torch.rand(2, 5) + 0.5
    distilled = (LABELS != -100) & (True if keep is None else keep)
    factors[0, LABELS == -100], factors[1, ~distilled] = 0.0, 0.0
    results = []
    for fill in (rows.fill, cuda.fill):
        values, gradient = torch.zeros(5, 5), torch.full_like(given.student, torch.nan)
        fill(given, terms, factors, values, gradient)
        results.append((values[[0, 3]][:, LABELS != -100], values[:, distilled if teacher else []], gradient))
    torch.testing.assert_close(*results, rtol=4 * torch.finfo(dtype).eps + 1e-5, atol=1e-5)
    assert results[1][0][1, 0] == 1.0
    assert not teacher or results[1][1][2, 1] == 1.0
    in_place = given.student.clone()
    cuda.fill(replace(given, student=in_place), terms, factors, torch.zeros(5, 5), in_place)
    assert torch.equal(in_place, results[1][2])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("classes", [7, 5000])
@interpreted
def test_is_the_same_where_the_student_masks_classes_out(classes: int, logits: Make) -> None:
    """With logits of -inf, which have a probability of 0; the label is none of them."""
    given = _rows(classes, torch.float32, logits, teacher=False, keep=None)
    given.student[:, 4:] = -torch.inf
    results = []
    for fill in (rows.fill, cuda.fill):
        values, gradient = torch.zeros(5, 5), torch.zeros_like(given.student)
        fill(given, Terms(None, (), 0.0), torch.ones(2, 5), values, gradient)
        results.append((values[0, LABELS != -100], gradient[LABELS != -100]))
    assert results[0][0].isfinite().all()
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@interpreted
def test_a_label_that_is_no_class_makes_the_loss_nan(logits: Make) -> None:
    given = replace(_rows(7, torch.float32, logits, teacher=False, keep=None), labels=torch.tensor([3, 7, -1, 0, 6]))
    values = torch.zeros(5, 5)
    cuda.fill(given, Terms(None, (), 0.0), torch.ones(2, 5), values, torch.empty_like(given.student))
    assert values[0].isnan().tolist() == [False, True, True, False, False]


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("distills", [True, False])
def test_compiles_for_gpus(distills: bool, capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which needs none; the interpreter takes Python that the compiler does not."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    triton = importlib.import_module("triton")
    source, target = (
        importlib.import_module(name) for name in ("triton.compiler.compiler", "triton.backends.compiler")
    )
    kernel = importlib.import_module("headstart.distill.fused.triton_kernel")._losses_of_a_row
    kinds = dict.fromkeys(kernel.arg_names, "i32") | dict.fromkeys(("student", "teacher", "gradient"), "*bf16")
    kinds |= {"labels": "*i64", "keep": "*i1", "factors": "*fp32", "values": "*fp32"}
    kinds |= {"temperature": "fp32", "smoothing": "fp32"}
    constants = {"distills": distills, "picks": distills, "block": 4096}
    kinds |= dict.fromkeys(constants, "constexpr")
    made = triton.compile(source.ASTSource(kernel, kinds, constants), target=target.GPUTarget("cuda", capability, 32))
    assert made.asm["cubin"]


def test_is_for_cuda_only(logits: Make) -> None:
    assert not cuda.applies(_rows(7, torch.float32, logits, teacher=True, keep=None), Terms(None, (), 0.0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", ["kl", "mse", "jsd"])
def test_on_a_gpu(name: str, dtype: torch.dtype, logits: Make) -> None:
    """The kernel (KL, but for float64) and the chunks, both against the CPU, without waiting for the device."""
    student, teacher = logits(300, 5000).to(dtype), logits(300, 5000).to(dtype)
    labels, objective = torch.randint(5000, (300,)), build_objective(name, 4.0)
    labels[::7] = -100
    keep = torch.rand(300) < 0.9
    teacher[~keep, 5] = torch.nan
    results = []
    for device in ("cpu", "cuda"):
        leaf = student.to(device, copy=True).requires_grad_()
        target, label, kept = teacher.to(device), labels.to(device), keep.to(device)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error" if device == "cuda" else "default")
        try:
            loss = fused_loss(leaf, label, [target], objective=objective, weight=0.9, keep=kept)
            alone = cross_entropy(leaf, label, label_smoothing=0.1)
            gradients = torch.autograd.grad(loss.loss * 4, leaf) + torch.autograd.grad(alone, leaf)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        results.append([item.cpu() for item in (*loss, alone, *gradients)])
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(results[0], results[1], rtol=max(4 * eps, 1e-5), atol=eps * 1e-2)
