"""Where bfloat16 is in hardware, and what `auto` means there."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest
import torch

from headstart import precision
from headstart.precision import bf16_slowdown, chosen_for, has_bf16, slow_bf16, why_auto

CPU = torch.device("cpu")


@pytest.fixture
def x86(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A processor without any of the instructions."""
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    return monkeypatch


@pytest.mark.parametrize("instructions", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_a_processor_with_the_instructions_has_it(instructions: str, x86: pytest.MonkeyPatch) -> None:
    assert not has_bf16(CPU) and chosen_for("auto", CPU) == "fp32"
    x86.setattr(torch.cpu, instructions, lambda: True)
    assert has_bf16(CPU) and chosen_for("auto", CPU) == "bf16"
    x86.setenv("ONEDNN_MAX_CPU_ISA", "avx2")
    assert not has_bf16(CPU)
    x86.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    assert has_bf16(CPU)


def test_a_torch_without_the_names_says_no(x86: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        x86.delattr(torch.cpu, name)
    assert not has_bf16(CPU)


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux lists a processor's instructions")
def test_it_agrees_with_what_the_kernel_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = {word for line in lines if line.startswith(("flags", "Features")) for word in line.split()}
    assert has_bf16(CPU) == bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def test_apples_devices_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not has_bf16(CPU) and not has_bf16(torch.device("mps"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_has_it_from_ampere_on() -> None:
    device = torch.device("cuda", 0)
    assert has_bf16(device) == (torch.cuda.get_device_capability(device)[0] >= 8)


def test_who_asks_for_one_gets_it() -> None:
    assert [chosen_for("fp32", CPU), chosen_for("bf16", CPU)] == ["fp32", "bf16"]


def test_the_factor_is_measured_here() -> None:
    assert bf16_slowdown(CPU) > 0
    assert bf16_slowdown(CPU) == bf16_slowdown(CPU)  # once in a process


def test_explicit_bf16_in_software_is_told_its_price(x86: pytest.MonkeyPatch) -> None:
    x86.setattr(precision, "bf16_slowdown", lambda device: 9.96)
    assert "took 10.0 times as long" in slow_bf16("bf16", CPU)
    assert slow_bf16("fp32", CPU) == ""
    x86.setattr(precision, "bf16_slowdown", lambda device: 0.9)
    assert slow_bf16("bf16", CPU) == ""
    x86.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert slow_bf16("bf16", CPU) == "" and "in hardware" in why_auto(CPU)
