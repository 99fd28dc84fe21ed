"""Masked-language recipes judged by GLUE: what the record says, what a kill costs, what is refused beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest

pytest.importorskip("transformers", reason="needs transformers: pip install 'headstart[text]'")
pytest.importorskip("sklearn", reason="GLUE needs headstart[text]")

from headstart.errors import DataError, RecipeError
from headstart.experiment.race import race_recipe
from headstart.recipe.load import load_recipe, parse_recipe
from headstart.records import RunRecord, read_record
from headstart.tasks.glue import GLUE_TASKS, GlueOptions, GlueRecord, glue_score, job
from headstart.tasks.glue.finetune import finetune
from headstart.tasks.glue.results import Making, SeedScore, over_seeds, over_tasks
from headstart.train import judging
from headstart.train.judging import judged
from headstart.train.run import train
from headstart.train.session import Session
from tests.tasks.glue.tiny import write_task
from tests.tiny import weight_bits
from tests.train.test_masked_lm import recipe, write_text

GLUE: dict[str, Any] = {"tasks": ["cola", "stsb"], "seeds": 1, "epochs": 1, "precision": "fp32"}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text") / "sentences")


@pytest.fixture
def glue_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADSTART_DATA", str(tmp_path / "data"))
    for name in ("cola", "stsb"):
        write_task(tmp_path / "data", name, train=40, validation=8)
    return tmp_path / "data"


@pytest.mark.usefixtures("glue_data")
class TestQuality:
    def test_it_is_the_glue_score_of_what_was_trained(self, text: Path, tmp_path: Path) -> None:
        record = train(recipe(text, glue=GLUE), tmp_path / "run")
        score = glue_score(tmp_path / "run", GlueOptions(**GLUE), folder=tmp_path / "once more")
        assert record.quality == score.score
        assert (record.metric, record.higher_is_better) == ("GLUE (cola, stsb)", True)
        assert record.losses["stsb.spearman"] == score.tasks[1].metrics["spearman"]
        assert read_record(RunRecord, tmp_path / "run" / "record.json") == record

    def test_the_training_is_the_same_as_without_and_its_loss_is_kept(self, text: Path, tmp_path: Path) -> None:
        scored, plain = train(recipe(text, glue=GLUE), tmp_path / "scored"), train(recipe(text), tmp_path / "plain")
        assert weight_bits(tmp_path / "scored") == weight_bits(tmp_path / "plain")
        assert plain.metric == "masked-LM loss" and not plain.higher_is_better
        assert scored.losses["masked-LM loss"] == plain.quality
        assert scored.losses["masked_accuracy"] == plain.losses["masked_accuracy"]
        assert not list((tmp_path / "scored").glob("checkpoint*"))

    def test_it_is_told_how_far_the_fine_tunings_are(self, text: Path, tmp_path: Path) -> None:
        told: list[tuple[int, int]] = []
        train(recipe(text, glue=GLUE), tmp_path, progress=lambda step, total, loss: told.append((step, total)))
        assert told[5:] == [(12, 12), (2, 2), (2, 2)]  # 40 samples in batches of 32, for each of two tasks

    def test_of_a_race_it_is_that_of_all_runs_and_teachers(self, text: Path, tmp_path: Path) -> None:
        race = {
            "budgets": [4],
            "seeds": [0],
            "primary": "distill",
            "arms": {"baseline": {"set": {"distill": None}}, "distill": {}},
            "calibration_pairs": 1,
        }
        taught = {"teachers": {"old": {"train.seed": 100}}, "distill": {"teachers": ["old"]}}
        record = race_recipe(recipe(text, glue={**GLUE, "tasks": ["cola"]}, race=race, **taught), tmp_path)
        assert {run.metric for run in record.runs} == {"GLUE (cola)"} and len(record.runs) == 2
        (teacher,) = next(run for run in record.runs if run.arm == "distill").teachers
        assert teacher.quality == read_record(RunRecord, tmp_path / "teachers" / "old" / "record.json").quality
        assert (tmp_path / "teachers" / "old" / "glue" / "glue.json").exists()


def test_a_run_killed_while_it_is_scored_neither_trains_nor_scores_again(
    text: Path, glue_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_by_glue = recipe(text, glue=GLUE)
    whole = train(judged_by_glue, tmp_path / "whole")
    begun = 0

    def killed_at_the_second(*arguments: Any, **settings: Any) -> None:
        nonlocal begun
        begun += 1
        if begun == 2:
            raise KeyboardInterrupt
        finetune(*arguments, **settings)

    def no_step(self: Session, step: int) -> NoReturn:
        raise AssertionError(f"step {step} was trained again")

    monkeypatch.setattr(job, "finetune", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        train(judged_by_glue, tmp_path / "killed")
    monkeypatch.setattr(Session, "train_step", no_step)
    resumed = train(judged_by_glue, tmp_path / "killed")
    assert begun == 3
    assert (resumed.quality, resumed.losses) == (whole.quality, whole.losses)
    assert weight_bits(tmp_path / "killed") == weight_bits(tmp_path / "whole")


class TestBeforeTheFirstStep:
    def test_data_that_is_not_at_hand_is_told(self, text: Path, glue_data: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"no data set 'glue/sst2' here; looked at"):
            train(recipe(text, glue={**GLUE, "tasks": ["cola", "sst2"]}), tmp_path / "run")
        assert not (tmp_path / "run" / "metrics.jsonl").exists()

    def test_a_race_tells_it_before_it_trains_a_teacher(self, text: Path, glue_data: Path, tmp_path: Path) -> None:
        arms = {"baseline": {"set": {"distill": None}}, "distill": {}}
        race = {"budgets": [4], "seeds": [0], "primary": "distill", "arms": arms}
        taught = {"teachers": {"old": {"train.seed": 100}}, "distill": {"teachers": ["old"]}}
        with pytest.raises(DataError, match="no data set 'glue/sst2' here"):
            race_recipe(recipe(text, glue={"tasks": ["sst2"]}, race=race, **taught), tmp_path / "race")
        assert not (tmp_path / "race").exists()

    @pytest.mark.parametrize(
        ("section", "message"),
        [
            ("glue: {tasks: [cola, sst3]}", "r.yaml:4: glue.tasks: unknown GLUE task 'sst3'; did you mean 'sst2'"),
            ("glue: {task: [cola]}", r"r.yaml:4: glue.task: unknown key; did you mean 'tasks'\?"),
            ("glue: {seeds: 0}", "r.yaml:4: glue.seeds: Input should be greater than or equal to 1"),
            ("glue: yes", "r.yaml:4: glue: Input should be a mapping of keys such as "),
        ],
    )
    def test_a_section_that_cannot_be_is_refused(self, section: str, message: str, tmp_path: Path) -> None:
        path = tmp_path / "r.yaml"
        path.write_text(f"task: mlm\ndata: {{name: x}}\ntrain: {{steps: 1}}\n{section}\n", encoding="utf-8")
        with pytest.raises(RecipeError, match=message):
            load_recipe(path)

    def test_images_have_no_glue_score(self) -> None:
        with pytest.raises(RecipeError, match="glue: unknown key"):
            parse_recipe({"data": {"name": "x"}, "train": {"steps": 1}, "glue": {}}, "here")


def test_a_recipe_without_the_section_is_one_from_before_there_was_one(text: Path) -> None:
    plain, scored = recipe(text), recipe(text, glue=GLUE)
    earlier = {key: value for key, value in plain.model_dump(mode="json").items() if key != "glue"}
    assert parse_recipe(earlier, "here") == plain
    for each in (plain, scored):
        assert parse_recipe(each.model_dump(mode="json"), "here") == each
    assert not isinstance(recipe(text, glue={}).model_dump()["glue"], type(None))


def test_scores_over_different_tasks_have_different_names(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Making(checkpoint="x", start="pretraining", epochs=1, precision="fp32", max_length=256)

    def scored(names: list[str]) -> GlueRecord:
        seeds = [
            SeedScore(task=name, seed=0, metrics={"accuracy": 0.5}, made=made, samples=1, steps=1, seconds=1)
            for name in names
        ]
        return over_tasks("x", [over_seeds([seed]) for seed in seeds], missing={}, notes=[])

    own = RunRecord(quality=4.5, metric="masked-LM loss", higher_is_better=False, seconds=1)
    metrics = {}
    for names in (["qqp"], ["qqp", "rte"], list(GLUE_TASKS)):
        monkeypatch.setattr(judging, "glue_score", lambda *_, names=names, **__: scored(names))
        metrics[len(names)] = judged(own, recipe(text, glue={}), tmp_path).metric
    assert metrics == {1: "GLUE (qqp)", 2: "GLUE (qqp, rte)", 8: "GLUE"}
    assert judged(own, recipe(text), tmp_path) is own
