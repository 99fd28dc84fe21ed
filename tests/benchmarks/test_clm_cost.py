"""The benchmark of causal-LM steps on a tiny Llama: that its steps do the work they say, and that it reports."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("transformers", reason="needs transformers: pip install 'headstart[text]'")

import clm_cost
import text_steps

from headstart.records import read_record
from peak_memory import peak_allocated
from results_file import Result


def shape(width: int) -> str:
    heads = "num_attention_heads: 2, num_key_value_heads: 1, head_dim: 4"
    return f"{{num_hidden_layers: 2, hidden_size: {width}, intermediate_size: 16, {heads}}}"


HALF = f"teachers.half-size={{model.config: {shape(8)}}}"
SMALL = [f"model.config={shape(16)}", HALF, "train.batch_size=4", "data.length=16", "data.vocab_size=320"]


def test_prints_a_table_and_writes_the_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clm_cost.main(["--pairs", "2", "--set", *SMALL, "--out", str(tmp_path)])
    (path,) = tmp_path.iterdir()
    result = read_record(Result, path)
    assert path.stem == result.name and result.name.startswith("clm-cost")
    ratios = {name for name, figure in result.figures.items() if figure.n == 2}
    assert ratios == {"distilling_step_ratio", "plain_step_ratio", "over_plain_step", "hidden_step_ratio"}
    assert {"memory_above_plain_in_chunks", "memory_above_plain_by_hand_in_chunks", "chunk"} <= result.figures.keys()
    printed = capsys.readouterr().out
    assert all(name in printed for name in result.figures)
    assert result.command.startswith("python benchmarks/clm_cost.py --pairs 2")


def test_steps_have_the_losses_of_the_formulas_each_time(tmp_path: Path) -> None:
    sessions = clm_cost.Sessions(clm_cost.made_recipe([*SMALL, "distill.temperature=2"], tmp_path), tmp_path)
    distilling, plain, aligning = sessions.distilling, sessions.plain, sessions.aligning
    batch = distilling.task.batch(0, 4)
    assert distilling.pool is not None and aligning.hidden is not None and aligning.distiller is None
    with torch.no_grad():
        student = clm_cost.full_logits(distilling.student, batch.inputs)
        teacher = clm_cost.full_logits(distilling.pool.live[0].module, batch.inputs)
        own, given = _states(aligning, batch.inputs["input_ids"])
        between = 1 - F.cosine_similarity(own, given, dim=-1).mean()
    p, q = (F.softmax(logits / 2, dim=-1) for logits in (teacher, student))
    divergence = 4 * (p * (p / q).log()).sum(-1).mean()
    task = F.cross_entropy(student, batch.labels)
    both = 0.1 * task + 0.9 * divergence  # the recipe's weight
    expected = {
        text_steps.trained(distilling): both,
        text_steps.by_hand(distilling, clm_cost.full_logits): both,
        text_steps.trained(plain): task,
        text_steps.by_hand(plain, clm_cost.full_logits): task,
        text_steps.trained(aligning): task + 0.1 * between,
        clm_cost.with_teacher_to_its_layer(plain, aligning): task,
    }
    for _ in range(2):
        for step, loss in expected.items():
            assert step().item() == pytest.approx(loss.item(), rel=1e-4)


def _states(aligning: object, tokens: torch.Tensor) -> list[torch.Tensor]:
    """Of the student's first layer, mapped, and the teacher's last, by transformers' own record of states."""
    hidden = aligning.hidden  # type: ignore[attr-defined]
    own = aligning.student(input_ids=tokens, output_hidden_states=True).hidden_states[1]  # type: ignore[attr-defined]
    caught: list[torch.Tensor] = []
    layer = hidden.teacher.module.get_submodule(hidden.teacher_layer)
    with layer.register_forward_hook(lambda *given: caught.append(given[-1])):
        hidden.teacher.module(input_ids=tokens)
    given = caught[0][0] if isinstance(caught[0], tuple) else caught[0]
    return [own @ hidden.projection.T, given]


def test_the_peak_is_that_of_all_allocations() -> None:
    def work() -> None:
        one = torch.zeros(2**20)
        two = one + 1
        del one, two
        torch.zeros(2**19)

    assert peak_allocated(work, torch.device("cpu")) == pytest.approx(2 * 4 * 2**20, rel=0.01)
