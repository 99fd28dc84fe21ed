"""What others run for us, or read about us, calls what is there."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
import yaml

from quote_figures import ROOT


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_workflow_runs_what_every_change_must_pass() -> None:
    steps = read(".github/workflows/ci.yml")["jobs"]["all"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]
    assert commands == [".ci/run"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_hooks_are_targets_of_make() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    entries = [hook["entry"] for repo in read(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert entries == ["make lint", "make types"]
    assert all(entry.removeprefix("make ") in targets for entry in entries)


def test_the_citation_is_of_this_project_and_its_paper() -> None:
    content = read("CITATION.cff")
    assert content["title"] == "headstart" and content["license"] == "Apache-2.0"
    (paper,) = content["references"]
    assert paper["url"].endswith("2211.00683") and len(paper["authors"]) == 5


@pytest.mark.parametrize("asked", ["headstart doctor RECIPE --json", "python -m torch.utils.collect_env"])
def test_a_report_of_a_fault_asks_for(asked: str) -> None:
    descriptions = [part["attributes"]["description"] for part in read(".github/ISSUE_TEMPLATE/bug.yml")["body"]]
    assert any(asked in description for description in descriptions)
