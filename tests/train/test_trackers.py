"""Trackers: metrics, settings and results reach them; without their package a run is refused before it trains."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from accelerate import tracking

from headstart.errors import RecipeError
from headstart.recipe.load import dump_recipe
from headstart.records import Arm, ArmResult, Estimate, RaceRecord
from headstart.train import ranks
from headstart.train.run import train
from headstart.train.trackers import Trackers, require_trackers, track_race
from tests.tiny import tiny_recipe


class Spy(tracking.GeneralTracker):  # type: ignore[misc]
    """Stands in for one of Accelerate's trackers and keeps what it is given."""

    name = "wandb"
    requires_logging_directory = False
    seen: ClassVar[list[tuple[Any, ...]]] = []

    def __init__(self, project: str, **options: Any) -> None:
        super().__init__()
        self.seen.append(("begin", project, options))

    def start(self) -> None:
        """Begin."""

    @property
    def tracker(self) -> None:
        """Nothing behind it."""

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.seen.append(("config", values))

    def log(self, values: dict[str, Any], step: int | None = None, **options: Any) -> None:
        self.seen.append(("log", step, values))

    def finish(self) -> None:
        self.seen.append(("finish",))


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the tracker `wandb` was given; the package itself need not be there."""
    Spy.seen.clear()
    monkeypatch.setattr("headstart.train.trackers.find_spec", lambda name: object())
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: [tracking.LoggerType.WANDB])
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "wandb", Spy)
    return Spy.seen


def test_accelerates_configuration_does_not_come_in_with_them(
    tiny_data: Path, tmp_path: Path, spy: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a process's Accelerators share it, and by this setting gradients would be divided."""
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    accelerator = ranks.connect()
    with Trackers(tiny_recipe(tiny_data, train__trackers=["wandb"]), tmp_path):
        assert accelerator.gradient_accumulation_steps == 1


def test_a_run_logs_settings_metrics_and_result(
    tiny_data: Path, teachers: list[str], tmp_path: Path, spy: list[tuple[Any, ...]]
) -> None:
    recipe = tiny_recipe(
        tiny_data, train__trackers=["wandb"], train__steps=6, train__log_every=2, distill={"teachers": teachers[:1]}
    )
    folder = tmp_path / "early-b6-s0"
    record = train(recipe, folder, labels={"arm": "early", "budget": 6.0, "seed": 0})
    assert [event[0] for event in spy] == ["begin", "config", *["log"] * 4, "finish"]
    assert spy[0][1] == recipe.name
    assert spy[0][2] == {"name": "early-b6-s0", "dir": str(folder), "mode": "offline"}
    config = spy[1][1]
    assert (config["train.steps"], config["arm"], config["budget"]) == (6, "early", 6.0)
    assert all(isinstance(value, str | int | float) for value in config.values())
    assert [event[1] for event in spy[2:6]] == [2, 4, 6, 6]
    assert {"loss", "task_loss", "distill_loss", "agreement", "weight"} <= spy[2][2].keys()
    assert 0.0 <= spy[2][2]["agreement"] <= 1.0
    assert "agreement" not in spy[4][2]  # the window has closed
    assert spy[5][2][record.metric] == record.quality


def test_a_run_that_breaks_off_ends_its_trackers(tiny_data: Path, tmp_path: Path, spy: list[tuple[Any, ...]]) -> None:
    def stop(step: int, total_steps: int, loss: float) -> None:
        raise KeyboardInterrupt

    recipe = tiny_recipe(tiny_data, train__trackers=["wandb"], train__steps=4, train__log_every=1)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run", progress=stop)
    assert spy[-1] == ("finish",)


def test_a_race_logs_the_figures_of_its_arms(tiny_data: Path, tmp_path: Path, spy: list[tuple[Any, ...]]) -> None:
    results = [
        ArmResult(arm="b", clock=clock, status="reached", verdict="faster", speedup=Estimate(value=value, low=1.5))
        for clock, value in (("seconds", 1.7), ("flops", 9.0))
    ]
    arms = [Arm(name="a"), Arm(name="b")]
    race = RaceRecord(arms=arms, baseline="a", primary="b", budgets=[1], seeds=[0], results=results)
    track_race(race, tiny_recipe(tiny_data), tmp_path)
    assert spy == []
    track_race(race, tiny_recipe(tiny_data, train__trackers=["wandb"]), tmp_path)
    assert ("log", 0, {"b/speedup": 1.7, "b/speedup_low": 1.5}) in spy


def test_a_package_that_is_missing_is_told_before_anything_is_trained(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headstart.train.trackers.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"train\.trackers: mlflow is not installed; pip install mlflow"):
        train(tiny_recipe(tiny_data, train__trackers=["mlflow"]), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    require_trackers([])


def test_trackers_are_written_into_the_recipe(tiny_data: Path) -> None:
    assert "trackers:\n  - wandb" in dump_recipe(tiny_recipe(tiny_data, train__trackers=["wandb"]))


def _read_tensorboard(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def _installed(*names: str) -> Callable[..., Any]:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed")


@_installed("tensorboard")
def test_tensorboard_shows_the_metrics_of_the_run_folder(tiny_data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tiny_data, train__trackers=["tensorboard"], train__steps=4, train__log_every=2)
    record = train(recipe, tmp_path / "run")
    shown = _read_tensorboard(tmp_path / "run" / "tensorboard" / recipe.name)
    assert [step for step, _ in shown["loss"]] == [2, 4]
    ((step, quality),) = shown[record.metric]
    assert step == 4
    assert quality == pytest.approx(record.quality)


@_installed("wandb")
def test_weights_and_biases_writes_offline(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    recipe = tiny_recipe(tiny_data, train__trackers=["wandb"], train__steps=4, train__log_every=2)
    train(recipe, tmp_path / "run")
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"))


@_installed("mlflow")
def test_mlflow_keeps_metrics_and_settings(tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlflow").as_uri())
    recipe = tiny_recipe(tiny_data, train__trackers=["mlflow"], train__steps=4, train__log_every=2)
    record = train(recipe, tmp_path / "run")
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.data.metrics[record.metric] == pytest.approx(record.quality)
    assert run.data.params["train.steps"] == "4"
