"""The protocol's table, and tasks by name."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from headstart.errors import RecipeError
from headstart.tasks.glue import GLUE_TASKS, GlueOptions
from headstart.tasks.glue.protocol import find_tasks, title

# As the authors give it: lr, decoupled weight decay, epochs, batch, seeds, metrics, start.
PAPER = {
    "mnli": (5e-5, 5e-6, 3, 48, 1, ["accuracy"], "pretraining"),
    "qnli": (1e-5, 1e-6, 10, 16, 1, ["accuracy"], "pretraining"),
    "qqp": (3e-5, 3e-6, 5, 16, 1, ["accuracy", "f1"], "pretraining"),
    "sst2": (3e-5, 3e-6, 3, 16, 3, ["accuracy"], "pretraining"),
    "cola": (5e-5, 5e-6, 10, 32, 4, ["matthews"], "pretraining"),
    "rte": (1e-5, 1e-5, 3, 16, 5, ["accuracy"], "mnli"),
    "mrpc": (8e-5, 8e-6, 10, 32, 5, ["accuracy", "f1"], "mnli"),
    "stsb": (3e-5, 3e-6, 10, 32, 5, ["spearman"], "mnli"),
}


@pytest.mark.parametrize("name", PAPER)
def test_settings_are_the_papers(name: str) -> None:
    task = GLUE_TASKS[name]
    lr, decay, *others = PAPER[name]
    assert (task.lr, task.decay) == (lr, decay)
    assert [task.epochs, task.batch_size, task.seeds, list(task.metrics), task.start] == others
    assert task.weight_decay == pytest.approx(1.0 if name == "rte" else 0.1)
    assert set(GLUE_TASKS) == set(PAPER)


@pytest.mark.parametrize("name", PAPER)
def test_a_step_of_adamw_decays_by_what_the_authors_optimizer_does(name: str) -> None:
    task = GLUE_TASKS[name]
    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.AdamW([weight], lr=task.lr, weight_decay=task.weight_decay)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert weight.item() == pytest.approx(1 - PAPER[name][1], abs=1e-15)


def test_tasks_are_found_by_any_spelling_and_run_mnli_first() -> None:
    assert [task.name for task in find_tasks(["STS-B", "sst_2", "MNLI", "sst2"])] == ["mnli", "sst2", "stsb"]
    assert len(find_tasks()) == 8


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sst3", r"unknown GLUE task 'sst3'; did you mean 'sst2'\?"),
        ("QMLI", r"unknown GLUE task 'QMLI'; did you mean '(mnli|qnli)'\?"),
        ("wnli", r"There are mnli, .*stsb \(WNLI is left out, as in the paper\)"),
        ("squad", "unknown GLUE task 'squad'"),
    ],
)
def test_an_unknown_task_is_refused_with_the_nearest_name(name: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        find_tasks(["cola", name])
    with pytest.raises(ValidationError, match=message):
        GlueOptions(tasks=["cola", name])


def test_no_tasks_are_refused() -> None:
    with pytest.raises(ValidationError, match="no GLUE tasks; give some of mnli"):
        GlueOptions(tasks=[])


@pytest.mark.parametrize(
    "wrong",
    [{"seeds": 0}, {"epochs": 0}, {"lr_scale": 0}, {"lr_scale": float("inf")}, {"precision": "fp16"}, {"seed": 1}],
)
def test_impossible_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        GlueOptions.model_validate(wrong)


def test_the_title_says_how_many_tasks_there_are() -> None:
    assert title(["cola", "sst2"]) == "GLUE over 2 of 8 tasks (cola, sst2)"
    assert title(list(GLUE_TASKS)) == "GLUE over all 8 tasks"
