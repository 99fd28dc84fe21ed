"""A GLUE score from end to end: what it is the mean of, how it is restarted, what it leaves alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from statistics import mean

import pytest
import torch
from safetensors.torch import load_file

from headstart.errors import DataError, HeadstartError
from headstart.records import read_record
from headstart.tasks.glue import (
    GLUE_TASKS,
    GlueOptions,
    GlueRecord,
    GlueTask,
    SeedScore,
    SilentGlueWatcher,
    glue_score,
    job,
)
from headstart.tasks.glue import checkpoint as checkpoint_module
from headstart.tasks.glue.checkpoint import Classifier
from headstart.tasks.glue.results import Making, over_seeds, over_tasks
from tests.tasks.glue.tiny import write_checkpoint, write_task


def options(*tasks: str, **more: object) -> GlueOptions:
    return GlueOptions.model_validate({"tasks": list(tasks) or None, "epochs": 1, "precision": "fp32", **more})


def score(record: GlueRecord) -> dict[str, dict[int, dict[str, float]]]:
    return {task.task: {seed.seed: seed.metrics for seed in task.seeds} for task in record.tasks}


class Told(SilentGlueWatcher):
    def __init__(self, stop_after: int | None = None) -> None:
        self.lines: list[str] = []
        self.stop_after = stop_after

    def training(self, what: str) -> None:
        self.lines.append(what)

    def scored(self, score: SeedScore) -> None:
        if len(self.lines) == self.stop_after:
            raise KeyboardInterrupt


class TestMeans:
    def seed(self, task: str, number: int, **metrics: float) -> SeedScore:
        made = Making(checkpoint="x", start="pretraining", epochs=1, precision="fp32", max_length=256)
        return SeedScore(task=task, seed=number, metrics=metrics, made=made, samples=1, steps=1, seconds=1)

    def test_over_seeds_then_metrics_then_tasks(self) -> None:
        mrpc = over_seeds([self.seed("mrpc", 0, accuracy=0.5, f1=0.9), self.seed("mrpc", 1, accuracy=0.7, f1=0.5)])
        cola = over_seeds([self.seed("cola", 0, matthews=-0.2)])
        assert mrpc.metrics == pytest.approx({"accuracy": 0.6, "f1": 0.7}) and mrpc.score == pytest.approx(0.65)
        record = over_tasks("x", [cola, mrpc], missing={}, notes=[])
        assert record.score == pytest.approx((0.65 - 0.2) / 2)
        assert record.title == "GLUE over 2 of 8 tasks (cola, mrpc)"
        assert record.figures() == pytest.approx(
            {"glue": 0.225, "cola.matthews": -0.2, "mrpc.accuracy": 0.6, "mrpc.f1": 0.7}
        )


def test_all_eight_tasks_by_the_protocol(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    for name in GLUE_TASKS:
        write_task(data, name, train=6, validation=5)
    told = Told()
    record = glue_score(checkpoint, options(), folder=tmp_path / "out", watcher=told)
    assert record.title == "GLUE over all 8 tasks" and record.missing == {}
    assert {task.task: len(task.seeds) for task in record.tasks} == {
        "mnli": 1, "qnli": 1, "qqp": 1, "sst2": 3, "cola": 4, "rte": 5, "mrpc": 5, "stsb": 5,
    }  # fmt: skip
    assert {task.task for task in record.tasks if task.start == "mnli"} == {"rte", "mrpc", "stsb"}
    assert list(record.tasks[0].metrics) == ["accuracy_matched", "accuracy_mismatched"]
    assert record.score == pytest.approx(
        mean(
            mean(mean(seed.metrics[name] for seed in task.seeds) for name in task.seeds[0].metrics)
            for task in record.tasks
        )
    )
    assert told.lines[0] == "mnli, seed 0 (1 of 25)" and told.lines[-1] == "stsb, seed 4 (25 of 25)"
    assert read_record(GlueRecord, tmp_path / "out" / "glue.json") == record
    assert len(list((tmp_path / "out").glob("*/seed-*.json"))) == 25
    assert [note.partition(":")[0] for note in record.notes] == ["fewer epochs than the protocol"]


def test_scaled_learning_rates_leave_the_decay_and_are_noted(
    checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_task(data, "cola", train=8, validation=5)
    used: list[GlueTask] = []
    monkeypatch.setattr(job, "finetune", lambda _model, _train, task, **_: used.append(task))
    record = glue_score(checkpoint, options("cola", seeds=1, epochs=10, lr_scale=4), folder=tmp_path)
    plain = GLUE_TASKS["cola"]
    assert used[0].lr == 4 * plain.lr
    assert used[0].lr * used[0].weight_decay == pytest.approx(plain.lr * plain.weight_decay)  # what a step takes away
    assert record.notes[-1] == "learning rates are 4 times the protocol's"


@pytest.fixture
def two_tasks(data: Path) -> Path:
    for name in ("cola", "stsb"):
        write_task(data, name, train=10, validation=8)
    return data


@pytest.mark.usefixtures("two_tasks")
class TestRestart:
    def test_what_is_done_is_not_done_again(
        self, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = glue_score(checkpoint, options("cola", "stsb", seeds=2), folder=tmp_path / "whole")
        stopped = Told(stop_after=2)
        with pytest.raises(KeyboardInterrupt):
            glue_score(checkpoint, options("cola", "stsb", seeds=2), folder=tmp_path / "parts", watcher=stopped)
        told = Told()
        rest = glue_score(checkpoint, options("cola", "stsb", seeds=2), folder=tmp_path / "parts", watcher=told)
        assert told.lines == ["stsb, seed 0 (1 of 2)", "stsb, seed 1 (2 of 2)"]
        assert score(rest) == score(whole)
        monkeypatch.setattr(job, "finetune", None)
        again = glue_score(checkpoint, options("cola", "stsb", seeds=2), folder=tmp_path / "parts")
        assert again == rest

    def test_more_seeds_and_tasks_add_to_what_is_done(self, checkpoint: Path, tmp_path: Path) -> None:
        glue_score(checkpoint, options("cola", seeds=1), folder=tmp_path)
        told = Told()
        record = glue_score(checkpoint, options("cola", "stsb", seeds=2), folder=tmp_path, watcher=told)
        assert told.lines == ["cola, seed 1 (1 of 3)", "stsb, seed 0 (2 of 3)", "stsb, seed 1 (3 of 3)"]
        fewer = glue_score(checkpoint, options("stsb", seeds=1), folder=tmp_path)
        assert fewer.score == record.tasks[1].seeds[0].metrics["spearman"]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"epochs": 2}, "epochs was 1.0, is now 2.0"),
            ({"precision": "bf16"}, "precision was 'fp32', is now 'bf16'"),
            ({"lr_scale": 3}, "lr_scale was 1.0, is now 3.0"),
        ],
    )
    def test_results_of_other_settings_are_refused(
        self, change: dict[str, object], message: str, checkpoint: Path, tmp_path: Path
    ) -> None:
        glue_score(checkpoint, options("cola", seeds=1), folder=tmp_path)
        with pytest.raises(HeadstartError) as caught:
            glue_score(checkpoint, options("cola", seeds=1, **change), folder=tmp_path)
        assert f"{tmp_path}/cola/seed-0.json: this result was made otherwise ({message})" in str(caught.value)

    def test_results_of_other_weights_are_refused(self, checkpoint: Path, tmp_path: Path) -> None:
        glue_score(checkpoint, options("cola", seeds=1), folder=tmp_path / "out")
        other = write_checkpoint(tmp_path / "other", seed=1)
        with pytest.raises(HeadstartError, match=r"made otherwise \(checkpoint was '\w+', is now '\w+'\)"):
            glue_score(other, options("cola", seeds=1), folder=tmp_path / "out")

    def test_a_damaged_result_is_named(self, checkpoint: Path, tmp_path: Path) -> None:
        glue_score(checkpoint, options("cola", seeds=1), folder=tmp_path)
        (tmp_path / "cola" / "seed-0.json").write_text("{}")
        with pytest.raises(HeadstartError, match=r"seed-0\.json: task: Field required \(expected a SeedScore\)"):
            glue_score(checkpoint, options("cola", seeds=1), folder=tmp_path)

    def test_wrong_data_of_a_later_task_is_found_before_the_first_step(
        self, checkpoint: Path, two_tasks: Path, tmp_path: Path
    ) -> None:
        (two_tasks / "glue" / "stsb" / "validation.parquet").write_bytes(b"")
        told = Told()
        with pytest.raises(DataError, match=r"stsb/validation\.parquet: cannot be read"):
            glue_score(checkpoint, options("cola", "stsb"), folder=tmp_path / "out", watcher=told)
        assert told.lines == []

    def test_a_folder_that_cannot_be_written_is_named(self, checkpoint: Path, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("a file")
        with pytest.raises(HeadstartError, match="cannot be written"):
            glue_score(checkpoint, options("cola", seeds=1), folder=tmp_path / "out")


@pytest.mark.usefixtures("two_tasks")
class TestRepeatability:
    def test_a_score_depends_on_neither_place_nor_company(self, checkpoint: Path, tmp_path: Path) -> None:
        # Dropout is on in this BERT, so that the random state counts.
        torch.manual_seed(3)
        both = glue_score(checkpoint, options("cola", "stsb", seeds=2), folder=tmp_path / "both")
        torch.manual_seed(4)
        alone = glue_score(checkpoint, options("stsb", seeds=2), folder=tmp_path / "alone")
        assert score(both)["stsb"] == score(alone)["stsb"]
        assert len({metrics["spearman"] for metrics in score(alone)["stsb"].values()}) == 2

    def test_the_callers_random_numbers_go_on_as_if_nothing_had_been(self, checkpoint: Path, tmp_path: Path) -> None:
        before = torch.get_rng_state()
        glue_score(checkpoint, options("cola", seeds=1), folder=tmp_path)
        assert torch.equal(torch.get_rng_state(), before)

    def test_results_go_beside_the_checkpoint_unless_told_otherwise(self, checkpoint: Path, tmp_path: Path) -> None:
        run = shutil.copytree(checkpoint, tmp_path / "run")
        glue_score(run, options("cola", seeds=1))
        assert json.loads((run / "glue" / "glue.json").read_text())["title"] == "GLUE over 1 of 8 tasks (cola)"
        # A second time, although the folder now has more in it.
        assert glue_score(run, options("cola", seeds=1)).tasks[0].task == "cola"


class TestStart:
    @pytest.fixture
    def loaded(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
        """What each fine-tuning loaded: the last part of its path, and the number of classes."""
        loaded: list[tuple[str, int]] = []

        def load(source: str | Path, classes: int, *, seed: int, device: torch.device) -> Classifier:
            loaded.append((Path(source).name, classes))
            return original(source, classes, seed=seed, device=device)

        original = checkpoint_module.load_classifier
        monkeypatch.setattr(job, "load_classifier", load)
        return loaded

    def test_tasks_start_from_what_mnli_left(
        self, checkpoint: Path, data: Path, tmp_path: Path, loaded: list[tuple[str, int]]
    ) -> None:
        for name in ("mnli", "rte", "stsb", "sst2"):
            write_task(data, name, train=100, validation=8)
        record = glue_score(checkpoint, options("rte", "stsb", "sst2", "mnli", seeds=1), folder=tmp_path)
        assert loaded == [("bert", 3), ("bert", 2), ("encoder", 2), ("encoder", 1)]
        assert [task.start for task in record.tasks] == ["pretraining", "pretraining", "mnli", "mnli"]
        assert not any("MNLI" in note for note in record.notes)
        tuned, pretrained = (
            load_file(folder / "model.safetensors") for folder in (tmp_path / "mnli" / "encoder", checkpoint)
        )
        name = "bert.encoder.layer.0.output.dense.weight"
        assert not torch.equal(tuned[name], pretrained[name]) and "classifier.weight" not in tuned

    def test_without_mnlis_data_they_start_from_pretraining_and_the_record_says_so(
        self, checkpoint: Path, data: Path, tmp_path: Path, loaded: list[tuple[str, int]]
    ) -> None:
        for name in ("mrpc", "rte"):
            write_task(data, name, train=8, validation=8)
        record = glue_score(checkpoint, options(seeds=1), folder=tmp_path)
        assert loaded == [("bert", 2), ("bert", 2)]
        assert "rte, mrpc: started from pretraining and not from MNLI, as its data is not here" in record.notes
        assert record.title == "GLUE over 2 of 8 tasks (rte, mrpc)"
        assert set(record.missing) == set(GLUE_TASKS) - {"rte", "mrpc"}
        write_task(data, "mnli", train=8, validation=8)
        with pytest.raises(HeadstartError, match=r"start was 'pretraining', is now 'mnli'"):
            glue_score(checkpoint, options(seeds=1), folder=tmp_path)

    def test_a_choice_of_tasks_without_mnli_does_not_train_on_it(
        self, checkpoint: Path, data: Path, tmp_path: Path
    ) -> None:
        for name in ("mnli", "rte"):
            write_task(data, name, train=8, validation=8)
        record = glue_score(checkpoint, options("rte", seeds=1), folder=tmp_path)
        assert record.notes[0] == (
            "rte: started from pretraining and not from MNLI, as it is not among the tasks asked for"
        )
        assert not (tmp_path / "mnli").exists()

    def test_mnli_is_done_again_where_its_encoder_is_gone(self, checkpoint: Path, data: Path, tmp_path: Path) -> None:
        for name in ("mnli", "rte"):
            write_task(data, name, train=8, validation=8)
        glue_score(checkpoint, options("mnli"), folder=tmp_path)
        shutil.rmtree(tmp_path / "mnli" / "encoder")
        told = Told()
        glue_score(checkpoint, options("mnli", "rte", seeds=1), folder=tmp_path, watcher=told)
        assert told.lines == ["mnli, seed 0 (1 of 2)", "rte, seed 0 (2 of 2)"]
