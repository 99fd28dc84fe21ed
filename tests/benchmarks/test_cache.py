"""The cache benchmark on tiny networks: what it compares does the same work, and it sees what is overlooked."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import cache
import cache_damage
import pytest
import torch
from cache_files import peaked_logits, write_blocks
from cache_steps import Student

from headstart.cache import Keep
from headstart.cache.reader import CacheFile
from headstart.records import read_record
from results_file import Figure, Result

CPU = torch.device("cpu")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer classes and tokens: what is compared stays the same."""
    for name, value in {"IMAGE_CLASSES": 50, "VOCABULARY": 300, "SEQUENCES": 2, "LENGTH": 24, "WIDTH": 8}.items():
        monkeypatch.setattr(f"cache_steps.{name}", value)
        if hasattr(cache, name):
            monkeypatch.setattr(cache, name, value)


@pytest.mark.usefixtures("small")
def test_prints_a_table_and_writes_the_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial = ["--pairs", "2", "--corruptions", "60", "--depth", "8", "--batch-size", "2", "--device", "cpu"]
    cache.main([*trial, "--out", str(tmp_path)])
    result = read_record(Result, tmp_path / "cache.json")
    ratios = {"read_ratio_sampled", "cached_to_plain_ratio", "cached_to_live_ratio"}
    assert set(result.figures) == {*cache.GOALS, "corruptions", *ratios}
    assert all(result.figures[name].n == 2 for name in ratios)
    assert result.figures["corruptions"].value == 60 and result.figures["unnoticed"].value == 0
    assert result.figures["full_run_difference"].value == 0.0
    printed = capsys.readouterr().out
    assert all(name in printed for name in result.figures)


@pytest.mark.parametrize("damage", [cache_damage.change_byte, cache_damage.truncate, cache_damage.change_header])
def test_damage_damages(damage: cache_damage.Damage, tmp_path: Path) -> None:
    """Each time, and not always in the same way."""
    path = tmp_path / "whole"
    keys = write_blocks(path, peaked_logits(6, 50), Keep("top-k", 5), samples=6, blocks=4)
    file = CacheFile(path / "old.targets")
    whole, chance = file.path.read_bytes(), random.Random(0)
    found = [damage(whole, file, chance) for _ in range(40)]
    assert len(keys) == 4 and whole not in found
    assert len(set(found)) > 20


def test_what_reading_overlooks_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were blocks not checked and fingerprints not compared, the benchmark would tell."""
    monkeypatch.setattr("headstart.cache.reader.block_is_whole", lambda head, block: True)
    monkeypatch.setattr("headstart.cache.source.differences", lambda cached, now: [])
    assert cache_damage.count_unnoticed(tmp_path, 60) > 10


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("keep", [Keep("full"), Keep("top-k", 10)])
def test_steps_compared_give_the_same_loss_each_time(keep: Keep, tmp_path: Path) -> None:
    reading, in_memory = Student.of_images(8, 2, CPU).reading_steps(tmp_path, keep, blocks=4)
    losses = [step().item() for _ in range(3) for step in (reading, in_memory)]
    assert all(a == pytest.approx(b, rel=1e-6) for a, b in pairwise(losses))


def test_peaked_logits_are_peaked() -> None:
    p = peaked_logits(400, 1000).softmax(-1).amax(-1)
    assert 0.3 < p.median() < 0.8


@pytest.mark.parametrize(("high", "verdict"), [(1.03, "met"), (1.031, "missed")])
def test_goal_is_judged_by_the_upper_end(high: float, verdict: str) -> None:
    assert cache.table_line("read_ratio", Figure(value=1.0, low=0.99, high=high)).endswith(f"1.03: {verdict}")
    assert cache.table_line("bytes_per_image", Figure(value=48.1)).endswith("48: missed")
