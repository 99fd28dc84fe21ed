"""The check of a GPU, tried on the CPU in miniature; and that no part takes the others with it."""

from __future__ import annotations

import json
import os
import signal
import time
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


def outcome_of(program: str, out: Path, *, limit: float = 600) -> gpu_check.Outcome:
    return gpu_check.run(Part("part", ["-c", program], limit), out, device="cpu", limit=limit)


def test_a_part_that_is_killed_says_by_what(tmp_path: Path) -> None:
    outcome = outcome_of("import os; print('so far', flush=True); os.kill(os.getpid(), 9)", tmp_path)
    assert (outcome.ended, outcome.lines, outcome.failed) == ("killed by SIGKILL", ["so far"], True)


def test_what_was_measured_before_a_part_was_stopped_is_shown(tmp_path: Path) -> None:
    lines = "import time; [print('figure', n, flush=True) for n in range(20)]; time.sleep(600)"
    outcome = outcome_of(lines, tmp_path, limit=1.0)
    assert outcome.ended == "stopped after 1 s" and outcome.lines == [f"figure {n}" for n in range(8, 20)]


def test_the_processes_of_a_part_go_with_it(tmp_path: Path) -> None:
    """Also those that outlive it: they would keep memory of the device."""
    child = tmp_path / "child"
    program = f"""
import subprocess, sys
process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(child)!r}, "w").write(str(process.pid))
"""
    assert outcome_of(program, tmp_path).ended == "done"
    state = Path(f"/proc/{child.read_text()}/stat")
    deadline = time.monotonic() + 60
    while state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_process_that_cannot_be_killed_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that waits for a driver."""
    kill, left = os.killpg, []
    monkeypatch.setattr(os, "killpg", lambda group, _: left.append(group))
    monkeypatch.setattr(gpu_check, "_DYING", 0.1)
    outcome = outcome_of("import time; time.sleep(600)", tmp_path, limit=0.1)
    assert outcome.ended == "stopped after 0 s, and does not go"
    kill(left[0], signal.SIGKILL)


def test_a_result_that_cannot_be_read_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Part("broken", ["-c", f"open({str(tmp_path / 'broken.json')!r}, 'w').write('{{')"], 600)
    good = Part("works", ["-c", WRITES, str(tmp_path / "works.json")], 600)
    replace_parts(monkeypatch, [broken, good])
    assert gpu_check.main(["--device", "cpu", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "JSONDecodeError" in printed and "ratio 1.25" in printed


def test_time_that_is_left_goes_to_the_next_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds, limits = {"quick": 10.0, "slow": 120.0, "last": 5.0}, {}

    def run(part: Part, out: Path, *, device: str, limit: float) -> gpu_check.Outcome:
        limits[part.name] = limit
        return gpu_check.Outcome(part, "done", min(seconds[part.name], limit), [])

    monkeypatch.setattr(gpu_check, "run", run)
    replace_parts(monkeypatch, [Part(name, [], 60) for name in seconds])
    assert gpu_check.main(["--device", "cpu", "--out", str(tmp_path)]) == 0
    assert limits == {"quick": 60, "slow": 110, "last": 60}
    assert "slow: at most 110 s" in capsys.readouterr().out


def test_interrupted_it_shows_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(part: Part, out: Path, **_: object) -> gpu_check.Outcome:
        if part.name == "second":
            raise KeyboardInterrupt
        return gpu_check.Outcome(part, "done", 1.0, ["ratio 1.25"])

    monkeypatch.setattr(gpu_check, "run", run)
    replace_parts(monkeypatch, [Part(name, [], 60) for name in ("first", "second", "third")])
    assert gpu_check.main(["--device", "cpu", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "ratio 1.25" in printed and "interrupted" in printed and "third" not in printed


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
