"""The benchmark of masked-LM steps on a tiny ModernBERT: that its steps do the work they say, and that it reports."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("transformers", reason="needs transformers: pip install 'headstart[text]'")

import mlm_cost
import text_steps

from headstart.distill.projection import as_logits
from headstart.records import read_record
from results_file import Result

SIZE = "{num_hidden_layers: 1, hidden_size: 16, intermediate_size: 16, num_attention_heads: 2}"
SMALL = [f"model.config={SIZE}", "train.batch_size=4", "data.length=16", "data.vocab_size=64"]


def test_prints_a_table_and_writes_the_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mlm_cost.main(["--pairs", "2", "--set", *SMALL, "--out", str(tmp_path)])
    (path,) = tmp_path.iterdir()
    result = read_record(Result, path)
    assert path.stem == result.name and result.name.startswith("mlm-cost")
    assert set(result.figures) == {"masked_step_ratio", "plain_step_ratio", "over_plain_step", "all_positions_ratio"}
    printed = capsys.readouterr().out
    assert all(name in printed and figure.n == 2 for name, figure in result.figures.items())
    assert result.command.startswith("python benchmarks/mlm_cost.py --pairs 2")


def test_steps_have_the_losses_of_the_formulas_each_time(tmp_path: Path) -> None:
    recipe = mlm_cost.masked_lm_recipe([*SMALL, "distill.temperature=2"], tmp_path)
    distilling, plain = mlm_cost.make_sessions(recipe, tmp_path)
    batch = distilling.task.batch(0, 4)
    assert distilling.pool is not None
    rows, everywhere = batch.inputs["masked_rows"], {"input_ids": batch.inputs["input_ids"]}
    assert len(rows) == 4 * round(0.15 * 16)
    with torch.no_grad(), torch.autocast(distilling.device.type, dtype=torch.bfloat16):
        student, teacher = (
            as_logits(distilling.task.forward(model, everywhere)).float().flatten(0, 1)
            for model in (distilling.student, distilling.pool.live[0].module)
        )
    p, q = (F.softmax(logits / 2, dim=-1) for logits in (teacher, student))
    divergence = 4 * (p * (p / q).log()).sum(-1)
    task = F.cross_entropy(student[rows], batch.labels)
    masked = 0.1 * task + 0.9 * divergence[rows].mean()
    expected = {
        text_steps.trained(distilling): masked,
        text_steps.by_hand(distilling, mlm_cost.masked_logits): masked,
        text_steps.trained(plain): task,
        text_steps.by_hand(plain, mlm_cost.masked_logits): task,
        mlm_cost.at_all_positions(distilling): 0.1 * task + 0.9 * divergence.mean(),
    }
    for _ in range(2):
        for step, loss in expected.items():
            assert step().item() == pytest.approx(loss.item(), rel=2e-3)  # bf16, of a head given other numbers of rows
