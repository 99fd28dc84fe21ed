"""Recipes: what is refused and in which words, overrides, and that nothing is lost on the way through YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from headstart.errors import RecipeError
from headstart.recipe.load import dump_recipe, load_recipe, parse_recipe, varied
from headstart.recipe.recipe import Recipe

RECIPES = Path(__file__).parents[2] / "recipes"
BASE = "data: {name: x}\ntrain:\n  epochs: 1\n"
RACE = "race:\n  budgets: [1, 2]\n  seeds: [0]\n  primary: b\n  arms: {baseline: {}, b: {}}\n"


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def load(text: str, *overrides: str) -> Recipe:
        (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
        return load_recipe(tmp_path / "r.yaml", overrides)

    return load


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # Unknown keys, with the nearest one, also inside arms.
        (BASE + "trian: {}", r"r.yaml:4: trian: unknown key; did you mean 'train'\?"),
        (BASE + "  learning_rate: 1", "r.yaml:4: train.learning_rate: unknown key$"),
        (BASE + "  batchsize: 1", r"r.yaml:4: train.batchsize: unknown key; did you mean 'batch_size'\?"),
        (BASE + "distill:\n  teachers: [a]\n  wieght: 1", r"r.yaml:6: distill.wieght: .* did you mean 'weight'\?"),
        (BASE + RACE.replace("b: {}", "b: {sett: {}}"), r"race.arms.b.sett: unknown key; did you mean 'set'\?"),
        # The task decides what model and data hold.
        (BASE + "task: mlmm", "r.yaml:4: task: 'mlmm' is no task; did you mean 'mlm'"),
        (
            BASE + "task: translation",
            "r.yaml:4: task: 'translation' is no task; there is image-classification, mlm, clm",
        ),
        (BASE + "task: mlm\nmodel: {width: 3}", "r.yaml:5: model.width: unknown key$"),
        (BASE + "task: mlm\nmodel: {sise: tiny}", r"r.yaml:5: model.sise: unknown key; did you mean 'size'\?"),
        (
            BASE.replace("{name: x}", "{name: x, streaming: true}") + "task: clm",
            "train.epochs: how long a stream is nobody knows .*; give train.steps",
        ),
        (BASE + "task: clm\nmodel: {size: huge}", "r.yaml:5: model.size: Input should be '1m', '5m'"),
        (BASE + "task: clm\nmodel: {name: 'hub:a/b', size: 1m}", "has a size of its own; leave size='1m' out"),
        (
            BASE.replace("{name: x}", "{name: x, mask: 0.1}") + "task: clm",
            "r.yaml:1: data.mask: unknown key",
        ),
        (
            BASE.replace("{name: x}", "{name: x, streaming: true}") + "task: mlm",
            "train.epochs: how long a stream is nobody knows .*; give train.steps",
        ),
        # Wrong types and values.
        (BASE + "  lr: fast", r"r.yaml:4: train.lr: Input should be a valid number.*\(got 'fast'\)"),
        (BASE + "  lr: .inf", "r.yaml:4: train.lr: Input should be a finite number"),
        (BASE + "  lr: -1", "r.yaml:4: train.lr: Input should be greater than 0"),
        (BASE + "  seed: -1", "r.yaml:4: train.seed: Input should be greater than or equal to 0"),
        (
            BASE + "  accumulate: 3",
            "r.yaml:2: train: batch_size=128 cannot be cut into accumulate=3 equal micro-batches",
        ),
        (BASE + "model: resnet20", "r.yaml:4: model: Input should be a mapping of keys such as name, width"),
        (BASE + "distill: {teachers: a}", r"r.yaml:4: distill.teachers: Input should be a list; write \[a\]$"),
        (BASE + RACE.replace("[0]", "3"), r"r.yaml:6: race.seeds: Input should be a list; write \[3\]$"),
        (BASE + "distill: {teachers: []}", "r.yaml:4: distill.teachers: List should have at least 1 item"),
        (BASE + "distill: {teachers: [a], loss: kld}", "r.yaml:4: distill.loss: Input should be 'kl', 'reverse_kl'"),
        (
            BASE + "distill: {teachers: [a], draw: 0}",
            r"r.yaml:4: distill.draw: Input should be greater than 0 or 'all' \(got 0\)$",
        ),
        (
            BASE + "distill: {teachers: [a], draw: 2}",
            r"r.yaml:4: distill: draw=2 must be a number from 1 to 1 \(the pool",
        ),
        (BASE + "distill: {teachers: [a], weights: [1, 2]}", r"weights=\[1.0, 2.0\] must be 1 positive numbers"),
        (BASE + "distill: {teachers: [a], weights: [0]}", r"weights=\[0.0\] must be 1 positive numbers"),
        ("train: {epochs: 1}", "r.yaml:1: data: missing; this key is required"),
        # The length of training.
        (BASE.replace("1", "0"), r"r.yaml:3: train.epochs: Input should be greater than 0 \(got 0\)"),
        (BASE + "  steps: 3", "r.yaml:2: train: give either epochs or steps, and not both"),
        ("data: {name: x}\ntrain: {}", "r.yaml:2: train: give either epochs or steps"),
        # The window.
        (
            BASE + "distill: {teachers: [a], stop: 1.5}",
            r"r.yaml:4: distill.stop: .*less than or equal to 1 or .auto. \(got 1.5\)",
        ),
        (BASE + "distill: {teachers: [a], start: -0.1}", "r.yaml:4: distill.start: .*greater than or equal to 0"),
        (BASE + "distill: {teachers: [a], start: 0.6, stop: 0.4}", "r.yaml:4: distill: start=0.6 is after stop=0.4"),
        (BASE + "distill: {teachers: [a], ramp_up: 0.6}", "ramp_up and ramp_down do not fit between start and stop"),
        # The race.
        (BASE + RACE.replace("[1, 2]", "[0, 2]"), "r.yaml:5: race.budgets: 0 trains nothing; .* above 0"),
        (BASE + RACE.replace("[1, 2]", "[2, 1, 2]"), "r.yaml:5: race.budgets: 2 is there twice"),
        (BASE + RACE.replace("[1, 2]", "[]"), "r.yaml:5: race.budgets: List should have at least 1 item"),
        (BASE + RACE.replace("[0]", "[1, 1]"), "r.yaml:6: race.seeds: 1 is there twice"),
        (
            BASE + RACE.replace("primary: b", "primary: c"),
            "r.yaml:4: race: primary='c' is none of the arms: baseline, b",
        ),
        (
            BASE + RACE.replace("baseline: {}", "plain: {}"),
            "r.yaml:4: race: baseline='baseline' is none of the arms: plain",
        ),
        (BASE + RACE.replace("primary: b", "primary: baseline"), "'baseline' is both baseline and primary"),
        (BASE.replace("epochs", "steps") + RACE.replace("[1, 2]", "[0.5]"), "race.budgets: 0.5 is no number of steps"),
        # YAML.
        (BASE + "data: {name: y}", "r.yaml:4: data: this key stands twice; keep one"),
        (BASE + "model: {width: 1, name: a, width: 2}", "r.yaml:4: width: this key stands twice"),
        ("a: b: c", "r.yaml:1: not valid YAML: mapping values are not allowed here"),
        ("x: !!python/object/apply:os.system [ls]", "r.yaml:1: not valid YAML: could not determine a constructor"),
        ("name: 2020-13-45", "r.yaml: not valid YAML: month must be in 1..12"),
        ("- a", "r.yaml: a recipe is a mapping of keys to values"),
        ("", "r.yaml: a recipe is a mapping of keys to values"),
    ],
)
def test_a_wrong_recipe_is_refused_with_file_line_and_key(load: Any, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load(text)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trian.lr=1", r"override 'trian.lr=1': trian: unknown key; did you mean 'train'\?"),
        ("train.lr=fast", r"override 'train.lr=fast': train.lr: Input should be a valid number"),
        ("train.epochs=0", "override 'train.epochs=0': train.epochs: Input should be greater than 0"),
        ("train.lr", "override 'train.lr': write key=value, for example train.lr=0.2"),
        ("=1", "override '=1': write key=value"),
        ("train.lr=[", r"override 'train.lr=\[': the value is not valid YAML; quote it for the shell"),
        ("distill.stop=2", r"r.yaml:1: distill.teachers: missing.*\noverride 'distill.stop=2': distill.stop: .*"),
    ],
)
def test_a_wrong_override_is_named(load: Any, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load(BASE, override)


def test_all_mistakes_are_told_at_once(load: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        load(BASE + "  lr: fast\n  batchsize: 1\n")
    assert len(str(caught.value).splitlines()) == 2


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none.yaml: the recipe cannot be read \(No such file"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match=r"binary.yaml: the recipe cannot be read .*decode byte"):
        load_recipe(tmp_path / "binary.yaml")


def test_overrides_take_yaml_values_and_make_sections_on_the_way(load: Any) -> None:
    recipe = load(
        BASE, "train.lr=1e-2", "distill.teachers=[a, b]", "distill.stop=0.3", "train.steps=5", "train.epochs=null"
    )
    assert recipe.train.lr == 0.01
    assert (recipe.train.steps, recipe.train.epochs) == (5, None)
    assert recipe.distill.specs == ["a", "b"] and recipe.distill.stop == 0.3
    assert load(BASE, "distill.teachers=[a]", "distill=null").distill is None


def test_the_last_override_of_a_key_counts(load: Any) -> None:
    assert load(BASE, "train.lr=1", "train.lr=2").train.lr == 2


def test_a_variation_leaves_its_original_alone() -> None:
    recipe = parse_recipe(yaml.safe_load(BASE), "here")
    other = varied(recipe, {"distill": {"teachers": ["a"]}, "train.lr": 3}, "arm")
    assert (recipe.train.lr, recipe.distill) == (0.1, None)
    assert other.train.lr == 3 and other.distill is not None
    with pytest.raises(RecipeError, match=r"arm: train.lrr: unknown key; did you mean 'lr'\?"):
        varied(recipe, {"train.lrr": 3}, "arm")


def shipped() -> list[Path]:
    return sorted(RECIPES.glob("*.yaml"))


def test_there_are_recipes() -> None:
    assert shipped()


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.name)
def test_a_shipped_recipe_loads_and_survives_the_way_through_yaml(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    (tmp_path / "again.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(tmp_path / "again.yaml") == recipe
    for arm in recipe.race.arms.values() if recipe.race else []:
        varied(recipe, arm.set, path.name)


def test_every_value_survives_the_way_through_yaml(load: Any) -> None:
    text = BASE + RACE + "distill: {teachers: [a], draw: all, weights: [1]}\nteachers: {a: {train.lr: 0.1}}\n"
    recipe = load(text, "train.betas=[0.8, 0.9]", "name='ä: #1'", "train.clip_norm=1e-9")
    assert load(dump_recipe(recipe)) == recipe


def models(model: type[BaseModel]) -> set[type[BaseModel]]:
    found = {model}
    for field in model.model_fields.values():
        pending = [field.annotation]
        while pending:
            part = pending.pop()
            pending += getattr(part, "__args__", ())
            if isinstance(part, type) and issubclass(part, BaseModel):
                found |= models(part)
    return found


@pytest.mark.parametrize("model", sorted(models(Recipe), key=str))
def test_every_field_is_documented(model: type[BaseModel]) -> None:
    assert model.__doc__
    undocumented = [name for name, field in model.model_fields.items() if not field.description]
    assert undocumented == []


def test_a_recipe_cannot_be_changed(load: Any) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(BASE).train.lr = 1
