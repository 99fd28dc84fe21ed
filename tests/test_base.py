"""The wheel, installed without extras: a loop and a race of one's own work, and recipes say what they need."""

from __future__ import annotations

import json
import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from headstart.errors import HeadstartError
from headstart.extras import recipes_extra
from tests.base_only import ROOT, base_environment, base_requirements, closure

RECIPES_ONLY = ("accelerate", "datasets", "pyarrow", "transformers", "tokenizers", "lightning")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_environment(tmp_path_factory.mktemp("base"), also=["scikit-learn"])  # the example's own data


def python(base: Path, folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(base), *map(str, words)], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def test_the_base_is_light(base: Path, tmp_path: Path) -> None:
    assert not closure(base_requirements()) & set(RECIPES_ONLY)
    for name in ("torch", "numpy", "matplotlib"):
        assert python(base, tmp_path, "-c", f"import {name}").returncode == 0, name
    where = python(base, tmp_path, "-c", "import headstart; print(headstart.__file__)").stdout
    assert Path(where).is_relative_to(base.parent.parent)  # the wheel's, not the repository's
    for name in filter(find_spec, RECIPES_ONLY):
        assert "ModuleNotFoundError" in python(base, tmp_path, "-c", f"import {name}").stderr, name


def test_every_public_name_loads(base: Path, tmp_path: Path) -> None:
    done = python(base, tmp_path, "-c", "import headstart\nfor name in headstart.__all__: getattr(headstart, name)")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_loop_and_a_race_of_ones_own(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="needs scikit-learn, for the example's data: pip install headstart[text]")
    example = ROOT / "examples" / "plain.py"
    earlier = python(
        base, tmp_path, ROOT / "tools" / "example_diffs.py", example, "--steps", "30", "--save", "earlier.pt"
    )
    assert earlier.returncode == 0, earlier.stderr
    template = f"{base} {example} --teacher earlier.pt --steps {{budget}} --seed {{seed}} --record {{record}}"
    template += " --stop {arm}"
    axes = ["--arms", "0,0.5", "--budgets", "4,8", "--seeds", "0"]
    raced = ["-m", "headstart", "race", "--cmd", template, *axes, "--out", "race"]
    planned = python(base, tmp_path, *raced, "--plan")
    assert planned.returncode == 0 and len(planned.stdout.splitlines()) == 4, planned.stderr
    done = python(base, tmp_path, *raced)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "race" / "race.json").read_text())["runs"]) == 4
    assert (tmp_path / "race" / "report.html").stat().st_size > 10_000
    listed = python(base, tmp_path, "-m", "headstart", "teachers", "earlier.pt")
    assert listed.returncode == 0 and "earlier.pt" in listed.stdout, listed.stderr


@pytest.mark.parametrize("command", ["train", "race"])
def test_a_command_with_a_recipe_says_what_to_install(command: str, base: Path, tmp_path: Path) -> None:
    done = python(base, tmp_path, "-m", "headstart", command, ROOT / "recipes" / "demo.yaml")
    assert done.returncode == 1 and not done.stdout
    assert done.stderr == (
        "headstart: recipes need accelerate, which is not installed; pip install 'headstart[recipes]'\n"
    )


def test_only_what_is_missing_is_explained() -> None:
    with (
        pytest.raises(HeadstartError, match=r"recipes need no_such_thing, .* pip install 'headstart\[recipes\]'"),
        recipes_extra(),
    ):
        import no_such_thing  # type: ignore[import-not-found]  # noqa: F401
    with pytest.raises(ImportError, match="cannot import name"), recipes_extra():
        from json import nothing  # type: ignore[attr-defined]  # noqa: F401
