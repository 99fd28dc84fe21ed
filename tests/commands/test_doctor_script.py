"""`headstart doctor --script`, and the lines of the page about the doctor."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from headstart.cli import app
from headstart.commands.doctor_script import doctor_script
from headstart.errors import HeadstartError
from quote_figures import ROOT

SET_UP = """
import torch
from torch import nn
from beside import CLASSES

torch.manual_seed(0)
model, teachers = nn.Linear(4, CLASSES), nn.Linear(4, CLASSES)
inputs = torch.randn(64, 4)
labels = teachers(inputs).argmax(-1)
batches = {batches}
temperature = 2.0
"""


def written(folder: Path, batches: str = "[(inputs, labels)]") -> Path:
    (folder / "beside.py").write_text("CLASSES = 3")
    (folder / "set_up.py").write_text(SET_UP.format(batches=batches))
    return folder / "set_up.py"


@pytest.mark.parametrize("batches", ["[(inputs, labels)]", "({'input': inputs, 'labels': labels} for _ in range(99))"])
def test_a_file_tells_the_set_up(batches: str, tmp_path: Path) -> None:
    found = {check.name: check for check in doctor_script(written(tmp_path, batches))}
    assert found["labels"].finding.startswith("agrees with 100.0%") and found["loss at agreement"].status == "pass"


def test_by_the_command(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--script", str(written(tmp_path)), "--json"])
    assert result.exit_code == 0
    assert {check["name"] for check in json.loads(result.stdout)} >= {"label range", "labels", "cost"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model = 1", "does not define teachers and batches"),
        (None, "no such file"),
        ("batches = [1]", "no pair of inputs"),
    ],
)
def test_what_is_missing_is_told(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "set_up.py"
    if content is not None:
        path.write_text(f"model = teachers = None\n{content}" if "batches" in content else content)
    with pytest.raises(HeadstartError, match=message):
        doctor_script(path)


@pytest.mark.parametrize("arguments", [[], ["recipe.yaml", "--script", "set_up.py"]])
def test_a_recipe_or_a_script(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["doctor", *arguments])
    assert result.exit_code != 0


def test_the_lines_of_the_page_run() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    lines = next(code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "for batch in loader" in code)
    assert len(lines.strip().splitlines()) <= 10

    class Model(nn.Linear):
        def forward(self, input_ids: torch.Tensor) -> Any:
            return {"logits": super().forward(input_ids)}

    import headstart

    batch = {"input_ids": torch.randn(64, 4), "labels": torch.randint(3, (64,))}
    names: dict[str, Any] = {
        "loader": [batch] * 9,
        "model": Model(4, 3),
        "teachers": Model(4, 3),
        "headstart": headstart,
    }
    exec(compile(lines, "doctor.md", "exec"), names)
    assert len(names["batches"]) == 4 and names["check"].name in ("memory", "cost")
