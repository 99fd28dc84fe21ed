"""The documentation's site: it holds all pages and public names, it builds, and its first page's code runs."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from headstart import errors, records
from headstart.race import read_race
from quote_figures import ROOT

DOCS = ROOT / "docs"
PACKAGES = ["", ".cache", ".distill", ".race", ".report", ".tasks", ".tasks.glue", ".teachers", ".teachers.doctor"]
ADAPTERS = {"trainer": "transformers", "lightning": "lightning", "next_token": "torch"}


def described() -> list[str]:
    """The dotted names that the reference describes."""
    pages = (page.read_text(encoding="utf-8") for page in sorted((DOCS / "reference").glob("*.rst")))
    return [name for page in pages for name in re.findall(r"^\.\. (?:auto\w+|py:\w+):: (headstart\S+)$", page, re.M)]


def of(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def made_in(module: ModuleType) -> dict[str, Any]:
    """The classes and functions that a module without `__all__` offers."""
    return {
        name: value
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }


def test_every_page_has_its_place_in_the_contents() -> None:
    contents = re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text(encoding="utf-8"), re.DOTALL)
    listed = [line for block in contents for line in block.splitlines() if line and not line.startswith(":")]
    pages = [
        page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*") if page.suffix in (".md", ".rst")
    ]
    assert sorted([*listed, "index"]) == sorted(pages)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_describes_every_public_name(package: str) -> None:
    module = importlib.import_module(f"headstart{package}")
    things = [of(name) for name in described() if not name.startswith("headstart.adapters.")]
    missing = [
        name
        for name in module.__all__
        if name != "race" and not any(of(f"{module.__name__}.{name}") is thing for thing in things)
    ]
    assert not missing


def test_the_reference_describes_nothing_twice() -> None:
    assert len(set(described())) == len(described())


def test_the_reference_describes_the_race() -> None:
    assert "headstart.race.race" in described()  # apart, as `headstart.race` may be the function and the package


@pytest.mark.parametrize("module", [records, errors], ids=lambda module: module.__name__)
def test_the_reference_describes_every_record_and_error(module: ModuleType) -> None:
    described_here = {name.rpartition(".")[2] for name in described() if name.startswith("headstart.")}
    assert {name for name, value in made_in(module).items() if inspect.isclass(value)} <= described_here


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_reference_describes_every_adapter(adapter: str) -> None:
    pytest.importorskip(ADAPTERS[adapter])
    module = importlib.import_module(f"headstart.adapters.{adapter}")
    assert {f"{module.__name__}.{name}" for name in made_in(module)} <= set(described())


def test_the_code_of_the_first_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    page = (DOCS / "getting-started.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    for long, short in {"steps=1000": "steps=20", "steps = 200": "steps = 5", "[50, 100, 200, 400]": "[2, 3]"}.items():
        assert long in code
        code = code.replace(long, short)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "getting-started.md", "exec"), names)
    assert len(names["record"].runs) == 2 * 2 * 3
    assert names["distiller"].last.step == 2  # of 5, the first half is distilled
    assert (tmp_path / "runs" / "first" / "report.html").stat().st_size


def test_the_code_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    loop, race = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    model, inputs = nn.Linear(4, 3), torch.randn(8, 4)
    torch.save(nn.Linear(4, 3).state_dict(), "old.pt")
    names: dict[str, Any] = {
        "F": functional,
        "build": lambda: nn.Linear(4, 3),
        "epochs": 2,
        "loader": [(inputs, torch.arange(8) % 3)] * 5,
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "train": lambda arm, budget, seed: {"quality": 1 - 1 / budget, "seconds": budget},
    }
    exec(compile(loop, "README.md", "exec"), names)
    assert names["distiller"].current_step == 10
    assert names["distiller"].last.step == 4  # of 10, the first half is distilled
    exec(compile(race, "README.md", "exec"), names)
    assert len(read_race("runs/mine").runs) == 2 * 3 * 3


def test_the_script_of_the_plain_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its commands say: an old model, one that it teaches, and what the race is given."""
    pytest.importorskip("sklearn")
    page = (DOCS / "plain.md").read_text(encoding="utf-8")
    script = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    assert script.count("# headstart\n") == 5
    (tmp_path / "train.py").write_text(script, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    old, taught = re.findall(r"^    python train\.py (.*)$", page, re.MULTILINE)
    (raced,) = re.findall(r'--cmd "python train\.py (.*?)"', page)
    raced = raced.format(arm="distill", budget=2, seed=1, record="record.json")
    for options in (re.sub(r"--epochs \d+", "--epochs 1", old), f"{taught} --epochs 1", raced):
        monkeypatch.setattr(sys, "argv", ["train.py", *options.split()])
        names = runpy.run_path("train.py", run_name="__main__")
    assert names["distiller"].current_step == names["steps"] == 2 * len(names["loader"])
    record = records.RunRecord.model_validate_json((tmp_path / "record.json").read_text())
    assert record.metric == "accuracy" and record.seconds > 0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("sphinx", "furo", "myst_parser", "lightning", "transformers"):
        pytest.importorskip(package, reason="pip install -e '.[docs]' brings what builds the site")
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "--fail-on-warning",
        "--keep-going",
        "--quiet",
        "-d",
        str(folder / "doctrees"),
    ]
    done = subprocess.run([*command, DOCS, folder / "site"], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.mark.slow
def test_the_site_needs_no_network(site: Path) -> None:
    for page in site.rglob("*.html"):
        used = re.findall(
            r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"(https?:[^\"]*)", page.read_text(encoding="utf-8")
        )
        assert not used, page.name


@pytest.mark.slow
def test_links_lead_somewhere_on_the_site_too(site: Path) -> None:
    for page in site.glob("*.html"):
        for link in re.findall(r"<a\b[^>]*href=\"(?!https?:)([^\"#?]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def recorded(name: str, figure: str) -> float:
    content = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return float(content["figures"][figure]["value"])


@pytest.mark.slow
def test_figures_are_shown_without_their_source(site: Path) -> None:
    accuracy = recorded("tune-fashion-mnist", "accuracy.teacher-resnet14")
    speedup = recorded("race-fashion-mnist", "speedup_at_baseline_best")
    shown_as = {"defaults.html": f"{accuracy:.2%}".replace("%", " %"), "index.html": f"{speedup:.2f}x"}
    for page, figure in shown_as.items():
        shown = (site / page).read_text(encoding="utf-8")
        assert figure in shown
        assert not re.findall(r"<!-- [\w.-]+: ", shown)
