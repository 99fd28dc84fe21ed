"""`headstart cache`, and `headstart train` on what it made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headstart.cli import app
from tests.tiny import tiny_recipe, write_images, write_recipe

RUN = CliRunner()


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    described = tiny_recipe(
        write_images(tmp_path / "images"), teachers={"old": {"train.steps": 4}}, distill={"teachers": ["old"]}
    )
    return write_recipe(tmp_path / "recipe.yaml", described)


def test_caches_and_trains_on_it(recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "targets"
    first = RUN.invoke(app, ["cache", str(recipe), "data.seed=0", "--out", str(folder)])
    assert first.exit_code == 0, first.output
    assert "targets of 144 samples from 1 teacher: " in first.stderr and "6/6 batches" in first.stderr
    assert first.stdout == f"cached: {folder / 'old.targets'}; read it with distill.cache={folder}\n"
    again = RUN.invoke(app, ["cache", str(recipe), "data.seed=0", "--out", str(folder), "--json"])
    assert json.loads(again.stdout) == {"old.targets": (folder / "old.targets").stat().st_size}
    for seed in (1, 2):
        reading = ["data.seed=0", f"train.seed={seed}", f"distill.cache={folder}"]
        trained = RUN.invoke(app, ["train", str(recipe), *reading, "--out", str(tmp_path / f"run{seed}")])
        assert trained.exit_code == 0, trained.output
        assert not (tmp_path / f"run{seed}" / "teachers").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--keep", "topk"], 2, "headstart: --keep=topk: choose one of full, top-k, sampled"),
        (["--by", "step"], 2, "headstart: --by=step: choose one of epoch, view"),
        (["--by", "view"], 2, "a sample is seen in more ways than a cache can hold"),
        (["--keep", "full", "--count", "3"], 1, "count=3 is for top-k and sampled targets"),
        (["distill=null"], 2, "the recipe has no distill section"),
        (["--keep", "sampled", "distill.loss=mse"], 1, "sampled targets are good for loss=kl and not for mse"),
    ],
)
def test_what_cannot_be_cached_is_said(
    arguments: list[str], code: int, message: str, recipe: Path, tmp_path: Path
) -> None:
    done = RUN.invoke(app, ["cache", str(recipe), *arguments, "--out", str(tmp_path / "targets")])
    assert done.exit_code == code
    assert message in done.stderr
    assert code != 2 or not (tmp_path / "targets").exists()  # nothing was trained for it


@pytest.mark.parametrize(("by", "count", "seed"), [("epoch", 16, 0), ("view", 325, 3)])
def test_targets_made_elsewhere_are_asked_for_and_imported(
    by: str, count: int, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By view those of all sequences, good for any seed."""
    pytest.importorskip("transformers")
    from tests.train.test_causal_lm import recipe as causal
    from tests.train.test_masked_lm import write_text

    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    described = causal(
        write_text(tmp_path / "text"), distill={"teachers": ["served"], "stop": 0.1, "temperature": 1.0, "weight": 0.5}
    )
    path, prompts = write_recipe(tmp_path / "recipe.yaml", described), tmp_path / "prompts.jsonl"
    asked = RUN.invoke(app, ["cache", str(path), "--prompts", str(prompts), "--by", by])
    assert asked.exit_code == 0 and asked.stdout == f"{count} sequences: {prompts}\n", asked.output
    answers = tmp_path / "answers.jsonl"
    place = {"token_ids": [[1, 2]] * 15, "logprobs": [[-0.7, -1.5]] * 15}
    lines = [json.dumps(json.loads(line) | place) for line in prompts.read_text().splitlines()]
    answers.write_text("\n".join(lines), encoding="utf-8")
    cache = ["cache", str(path), "--by", by, "--import", str(answers)]
    taken = RUN.invoke(app, [*cache, "--out", str(tmp_path / "targets")])
    assert taken.exit_code == 0, taken.output
    reading = [f"distill.cache={tmp_path / 'targets'}", f"train.seed={seed}"]
    trained = RUN.invoke(app, ["train", str(path), *reading, "--out", str(tmp_path / "run")])
    assert trained.exit_code == 0, trained.output
    answers.write_text(lines[0], encoding="utf-8")
    refused = RUN.invoke(app, [*cache, "--out", str(tmp_path / "other")])
    assert refused.exit_code == 4 and f"{count - 1} have no targets" in refused.stderr
