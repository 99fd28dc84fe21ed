"""The check of a GPU, tried on the CPU in miniature; and that no part takes the others with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import overhead
import pytest
import torch
from overhead_steps import work_of

import gpu_check
from gpu_check import Part
from overhead_models import MODELS

pytest.importorskip("transformers", reason="needs transformers: pip install 'headstart[text]'")
CPU = torch.device("cpu")
WRITES = """
import json, sys
figures = {"ratio": {"value": 1.25, "low": 1.0, "high": 1.5}}
open(sys.argv[1], "w").write(json.dumps({"figures": figures}))
"""


def replace_parts(monkeypatch: pytest.MonkeyPatch, found: Sequence[Part]) -> None:
    monkeypatch.setattr(gpu_check, "parts", lambda *_, **__: list(found))


@pytest.mark.slow
def test_a_part_writes_its_result_and_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--device", "cpu", "--quick", "--only", "overhead-bert-base", "--out", str(tmp_path)]
    code = gpu_check.main(arguments)
    assert code == 0, (tmp_path / "overhead-bert-base.log").read_text()
    figures = json.loads((tmp_path / "overhead-bert-base.json").read_text())["figures"]
    printed = capsys.readouterr().out
    assert "default_run_ratio" in figures and all(name in printed for name in figures)


@pytest.mark.parametrize("quick", [True, False])
def test_options_are_those_of_the_programs(quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes its part's command line; what does the work does not run."""
    seen = []
    for part in gpu_check.parts("cpu", tmp_path, quick=quick):
        program, *options = part.command
        if program != "-m":
            module = __import__(Path(program).stem)
            seen.append(str(module.parse_arguments(options).out))
    assert seen == [str(tmp_path)] * 5


def test_all_takes_eight_minutes_at_most_and_finds_the_tests() -> None:
    assert sum(part.limit for part in gpu_check.parts("cuda", Path(), quick=False)) <= 480
    assert "tests/distill/fused/test_triton_kernel.py" in gpu_check.files_with_gpu_tests()


def test_a_part_that_fails_or_hangs_leaves_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ways = {"hangs": ["-c", "import time; time.sleep(600)"], "fails": ["-c", "raise SystemExit('no device')"]}
    good = Part("works", ["-c", WRITES, str(tmp_path / "works.json")], 600)
    replace_parts(monkeypatch, [Part("hangs", ways["hangs"], 0.5), Part("fails", ways["fails"], 600), good])
    (tmp_path / "older.json").write_text("{}")
    assert gpu_check.main(["--device", "cpu", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    for expected in ("stopped after 0", "failed (1)", "no device", "done", "ratio 1.25 (1 to 1.5)"):
        assert expected in printed
    replace_parts(monkeypatch, [good])
    assert gpu_check.main(["--device", "cpu", "--out", str(tmp_path)]) == 0


def test_unknown_part_and_missing_device_are_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        gpu_check.main(["--device", "cpu", "--only", "speed"])
    assert "no part is called speed; there are tests, loss" in capsys.readouterr().err
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu_check.main([])
    assert "torch sees no CUDA device" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "rows", "classes"), [("bert-base", 2 * 19, 50), ("resnet50", 2, 1000)])
def test_larger_models_make_the_same_steps(name: str, rows: int, classes: int) -> None:
    work = work_of(*MODELS[name](2, CPU, miniature=True), CPU)
    assert work.student(work.images).shape == (rows, classes)
    for step, reference in list(overhead.comparisons(work).values())[:4]:
        assert step().item() == pytest.approx(reference().item(), rel=1e-5)
