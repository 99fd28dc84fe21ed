"""The benchmark of pools on tiny networks: that it reports, and that a streamed pool needs two teachers' memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import pool
from headstart.records import read_record
from results_file import Result

TRIAL = ["--pairs", "2", "--sizes", "1", "4", "--depth", "8", "--batch-size", "2", "--device", "cpu"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own numbers")
def test_prints_a_table_and_writes_the_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool.main([*TRIAL, "--out", str(tmp_path)])
    figures = read_record(Result, tmp_path / "pool.json").figures
    kinds = ["stream_{}_memory_units", "resident_{}_memory_units", "stream_{}_time_ratio", "all_{}_time_ratio"]
    assert set(figures) == {kind.format(size) for kind in kinds for size in (1, 4)}
    printed = capsys.readouterr().out
    assert all(name in printed for name in figures)
    assert 3.9 < figures["resident_4_memory_units"].value < 4.6
    assert 1.9 < figures["stream_4_memory_units"].value < 2.6
