"""The recipe of the paper's language model, tiny and on Wikipedia, from text to weights: two processes, and one."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("transformers", reason="needs transformers: pip install 'headstart[text]'")

from headstart.cli import app
from headstart.records import RunRecord, read_record
from headstart.tasks.text.config import MlmData
from headstart.tasks.text.corpus import load_corpus
from tests.train.processes import run_together
from tests.train.test_distributed import check_equal_weights, metrics

pytestmark = pytest.mark.slow

RECIPE = Path(__file__).parents[2] / "recipes" / "bert-c4.yaml"
# All that the recipe does, with what is at hand in place of C4 and its tokenizer, and sizes for a CPU.
TINY = [
    "data.name=wikipedia-en-2015-small",
    "data.subset=null",
    "data.length=32",
    "data.evaluate_sequences=40",
    "model.size=tiny",
    "model.config={hidden_size: 32, intermediate_size: 64}",
    "train.steps=6",
    "train.batch_size=16",
    "train.precision=fp32",
    "train.log_every=2",
    "distill.stop=0.5",
]


def give(command: list[str]) -> None:
    """A command, in this process."""
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output


def test_two_processes_learn_what_one_learns(research_data: Path, tmp_path: Path) -> None:
    """Text that is streamed, packed and masked anew; the teacher is trained first, by the same processes."""
    small = load_corpus(MlmData(name="wikipedia-en-2015-small", documents=20, vocab_size=1000))
    tokenizer = tmp_path / "tokenizer"
    small.save_tokenizer(tokenizer)
    command = ["train", str(RECIPE), *TINY, f"data.tokenizer={tokenizer}"]
    run_together(give, [*command, "--out", str(tmp_path / "two")])
    # One process that cuts its batches in two, as those two do.
    give([*command, "train.accumulate=2", "--out", str(tmp_path / "one")])

    check_equal_weights(tmp_path / "one", tmp_path / "two", tolerance=1e-4)
    first, second = (read_record(RunRecord, tmp_path / name / "record.json") for name in ("one", "two"))
    assert second.quality == pytest.approx(first.quality, rel=1e-4)
    assert (second.flops, second.teacher_flops) == (first.flops, first.teacher_flops)
    assert [line["step"] for line in metrics(tmp_path / "two")] == [2, 4, 6]
    assert "distill_loss" in metrics(tmp_path / "two")[0] and "distill_loss" not in metrics(tmp_path / "two")[-1]
    assert [sum(teacher.steps.values()) for teacher in second.teachers] == [6]
