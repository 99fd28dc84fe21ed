"""What the benchmark of kept memory measures: real steps, told apart by whether memory was kept."""

from __future__ import annotations

import platform

import pytest

pytest.importorskip("transformers", reason="needs transformers: pip install 'headstart[text]'")

import freed_memory


@pytest.mark.parametrize("name", freed_memory.MODELS)
def test_steps_are_measured(name: str) -> None:
    """Without keeping memory, which would go on in this process."""
    found = freed_memory.steps_of(name, 1, kept=False)
    assert set(found) == {"step", "cpu", "pages", "memory"}
    assert 0 < found["step"] < 60 and found["cpu"] > 0 and found["pages"] >= 0 and found["memory"] > 2**26


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not the GNU one")
def test_keeping_is_part_of_a_process_of_its_own() -> None:
    kept, usual = (freed_memory._in_a_process("resnet8", 3, kept=kept) for kept in (True, False))
    assert kept["pages"] < usual["pages"] / 2


def test_ratios_are_of_kept_over_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(name: str, steps: int, *, kept: bool) -> dict[str, float]:
        return {"step": 3.0, "cpu": 1.0, "pages": 1.0, "memory": 6.0} if kept else dict.fromkeys(KEYS, 4.0)

    monkeypatch.setattr(freed_memory, "_in_a_process", measured)
    figures = freed_memory.figures_of("resnet8", 6, 1)
    assert {key: figure.value for key, figure in figures.items()} == {
        "resnet8.step_ratio": 0.75,
        "resnet8.cpu_ratio": 0.25,
        "resnet8.memory_ratio": 1.5,
        "resnet8.pages_kept": 1.0,
        "resnet8.pages_usual": 4.0,
    }


KEYS = ("step", "cpu", "pages", "memory")
