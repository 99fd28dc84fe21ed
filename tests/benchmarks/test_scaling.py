"""The arithmetic of scaling: closed forms, a ring by hand, and models counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs transformers: pip install 'headstart[text]'")

import scaling
from headstart.records import read_record
from results_file import Result
from scaling_models import Counted, count_bert, count_resnet, count_smollm

SMALL = Counted(parameters=100, gathered=10, forward_flops=1.0, step_flops=4.0)


@pytest.mark.parametrize("gpus", [1, 2, 5, 8])
def test_a_ring_sends_what_the_formula_says(gpus: int) -> None:
    """An all-reduce by hand: each process sends a chunk to the next one, until all have the sum of all chunks."""
    chunks = [[float(10 * process + chunk) for chunk in range(gpus)] for process in range(gpus)]
    sums = [sum(column) for column in zip(*chunks, strict=True)]
    sent = [0] * gpus
    for turn in range(2 * (gpus - 1)):  # first they add what they get, then they keep it
        moving = [((process - turn) % gpus, process) for process in range(gpus)]
        values = [chunks[process][chunk] for chunk, process in moving]
        for (chunk, process), value in zip(moving, values, strict=True):
            after = (process + 1) % gpus
            chunks[after][chunk] = value + (chunks[after][chunk] if turn < gpus - 1 else 0)
            sent[process] += 1
    assert chunks == [sums] * gpus
    size = 12.0 * gpus  # of all chunks
    assert scaling.ring_bytes(size, gpus) == pytest.approx(12.0 * sent[0])
    assert scaling.ring_bytes(size, gpus, passes=1) == pytest.approx(12.0 * sent[0] / 2)


@pytest.mark.parametrize(
    ("communication", "hidden", "expected"), [(1.0, 2 / 3, 3.0), (2.0, 2 / 3, 3.0), (3.0, 2 / 3, 4.0), (1.0, 0.0, 4.0)]
)
def test_what_the_backward_pass_cannot_hide_is_waited_for(communication: float, hidden: float, expected: float) -> None:
    assert scaling.step_seconds(3.0, communication, hidden) == pytest.approx(expected)


def test_speedup_breaks_even_where_the_teachers_work_is_saved() -> None:
    assert scaling.speedup(4 / 3, 1 / 3, 1.0) == pytest.approx(1.0)
    assert scaling.speedup(13 / 12, 1 / 3, 0.25) == pytest.approx(1.0)
    assert scaling.speedup(1.5, 0.25, 0.0) == 1.5


def test_memory() -> None:
    assert scaling.student_bytes(10**9, states=2) == 20e9  # weights, gradients twice, two moments
    assert scaling.student_bytes(10**9, states=1) == 16e9
    assert scaling.student_bytes(10**9, states=2, shards=64) == 0.25e9
    held = {residence: scaling.teacher_bytes(SMALL, 4, residence, 8) for residence in ("device", "stream", "sharded")}
    assert held == {"device": 800, "stream": 400, "sharded": 2 * (50 + 10)}
    assert scaling.teacher_bytes(SMALL, 1, "stream", 8) == 200


def test_the_slowest_link_counts() -> None:
    assert [scaling.A100.link(gpus) for gpus in (1, 8, 9, 64)] == [300e9, 300e9, 25e9, 25e9]


def test_a_prediction_follows_from_its_inputs() -> None:
    machine = scaling.Machine(flops=40.0, local=100.0, remote=10.0, host=50.0, together=2)
    training = scaling.Training("small", SMALL, batch=64, states=1, samples_per_second=4.0, by_eight=24.0)
    found = {name: value for name, value, _ in scaling.predictions(training, machine, 4)}
    assert found["compute"] == pytest.approx(4000.0)  # 16 samples of 4 a second
    assert found["all_reduce"] == pytest.approx(60_000.0)  # 2 * 3/4 * 400 bytes at 10 a second
    assert found["step"] == pytest.approx(4000.0 + 60_000.0 - 4000.0 * 2 / 3)
    assert found["efficiency_unhidden"] == pytest.approx(4 / 64)
    assert found["teacher"] == pytest.approx(1000.0)
    assert found["distilling_step_unhidden"] == pytest.approx(65 / 64)
    assert found["copy_teacher"] == pytest.approx(4000.0)
    counted = {name: value for name, value, _ in scaling.counts(training, machine)}
    assert counted["utilisation"] == pytest.approx(0.4)
    assert counted["published_efficiency_8"] == pytest.approx(0.75)


def test_bert_is_counted_as_by_hand() -> None:
    counted = count_bert()
    width, layers, tokens, masked, words = 768, 12, 128, 19, 30522
    layer = 2 * tokens * (4 * width**2 + 2 * width * 4 * width) + 4 * tokens**2 * width
    assert counted.forward_flops == pytest.approx(layers * layer + masked * (2 * width**2 + 2 * width * words))
    assert counted.parameters == 109_514_298
    block = 4 * width * (width + 1) + 2 * 4 * width * width + 5 * width + 4 * width
    assert counted.gathered == counted.parameters - 10 * block
    assert counted.rho == pytest.approx(1 / 3, rel=0.01)


def test_resnet_is_the_one_of_the_literature() -> None:
    counted = count_resnet()
    assert counted.parameters == 25_557_032
    assert counted.forward_flops == pytest.approx(2 * 4.09e9, rel=0.005)  # published as 4.09 billion multiply-adds
    assert counted.rho == pytest.approx(1 / 3, rel=0.02)  # the images need no gradient


def test_smollm_is_counted_as_by_hand() -> None:
    counted, tokens, words = count_smollm("135m"), 2048, 49152
    width, keys, inner, layers = 576, 192, 1536, 30
    layer = 2 * tokens * (2 * width**2 + 2 * width * keys + 3 * width * inner) + 4 * tokens**2 * width
    assert counted.forward_flops == pytest.approx(layers * layer + 2 * tokens * width * words, rel=1e-3)
    assert counted.parameters == 134_515_008
    figures = {name: value for name, value, _ in scaling.smaller_teacher(scaling.A100)}
    rho = counted.forward_flops / count_smollm("360m").step_flops
    assert figures["distilled.0.17"] == pytest.approx(1 + 0.17 * rho)
    assert figures["tokens"] == pytest.approx(10_000 * 512 * 2048 / 1e9)


def test_prints_figures_and_writes_the_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scaling.main(["--out", str(tmp_path)])
    figures = read_record(Result, tmp_path / "scaling.json").figures
    assert {"rho.resnet20", "bert.64.step", "resnet50.8.16_teachers_sharded", "speedup.1.5.0.25"} <= set(figures)
    printed = capsys.readouterr().out
    assert all(name in printed for name in figures)
    assert figures["bert.64.4_teachers_stream"].value == figures["bert.8.4_teachers_stream"].value
    assert figures["bert.8.student_ddp"].value == pytest.approx(20 * 109_514_298 / 1e9)
