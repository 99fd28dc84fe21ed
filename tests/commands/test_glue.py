"""What `headstart glue` does and shows."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from headstart.errors import HeadstartError, RecipeError

pytest.importorskip("transformers", reason="GLUE needs headstart[text]")
pytest.importorskip("sklearn", reason="GLUE needs headstart[text]")

from headstart.commands.glue import glue_sentences, glue_table, score_checkpoint
from headstart.records import read_record
from headstart.tasks.glue import GlueRecord
from tests.tasks.glue.tiny import write_checkpoint, write_task


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADSTART_DATA", str(tmp_path / "data"))
    for task in ("sst2", "mrpc"):
        write_task(tmp_path / "data", task, train=8, validation=8)
    return write_checkpoint(tmp_path / "run")


def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def text(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


def test_it_scores_and_tells_what_it_does(run_folder: Path) -> None:
    shown = console()
    record = score_checkpoint(str(run_folder), tasks="SST-2, mrpc", seeds=1, epochs=1, console=shown)
    assert read_record(GlueRecord, run_folder / "glue" / "glue.json") == record
    assert "training sst2, seed 0 (1 of 2)" in text(shown)
    assert f"done sst2, seed 0: accuracy {record.tasks[0].score:.4f} in " in text(shown)


def test_the_table_and_the_sentences_say_what_was_scored_and_what_was_not(run_folder: Path, tmp_path: Path) -> None:
    record = score_checkpoint(str(run_folder), seeds=2, epochs=1, out=tmp_path / "out", console=console())
    shown = console()
    shown.print(glue_table(record))
    (row,) = [line for line in text(shown).splitlines() if "mrpc" in line]
    f1 = record.tasks[1].metrics["f1"]
    for part in (f"{record.tasks[1].score:.4f}", f"f1 {f1:.4f}", " 2 ", "pretraining"):
        assert part in row
    lines = glue_sentences(record).splitlines()
    assert lines[0] == f"GLUE over 2 of 8 tasks (sst2, mrpc): {record.score:.4f}"
    assert "Note: mrpc: started from pretraining and not from MNLI, as its data is not here" in lines
    assert "Without qqp: no data set 'glue/qqp' here; looked at" in lines


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": "sst3"}, "unknown GLUE task 'sst3'; did you mean 'sst2'?"),
        ({"tasks": "cola", "epochs": -1.0}, "--epochs=-1.0: Input should be greater than 0"),
        ({"tasks": "cola", "lr_scale": 0.0}, "--lr-scale=0.0: Input should be greater than 0"),
        ({"precision": "fp16"}, "--precision=fp16: Input should be 'auto', 'fp32' or 'bf16'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        score_checkpoint("run", console=console(), **options)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_a_folder_that_is_no_run_is_refused(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(HeadstartError, match=r"data: no config\.json in this folder"):
        score_checkpoint(str(tmp_path / "data"), tasks="sst2", console=console())
