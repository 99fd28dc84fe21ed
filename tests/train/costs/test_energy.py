"""Energy: differences of the machine's counters, over a wrap too, and nothing where one cannot be read."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from headstart.train.costs.clock import Clock
from headstart.train.costs.energy import EnergyMeter

CPU = torch.device("cpu")


@pytest.fixture
def rapl(tmp_path: Path) -> Path:
    """Two packages, a part of one, and the whole system, as the kernel shows them; the counters wrap at 1000 J."""
    for domain, name in (("0", "package-0"), ("0:0", "core"), ("1", "package-1"), ("2", "psys")):
        place = tmp_path / f"intel-rapl:{domain}"
        place.mkdir()
        (place / "name").write_text(f"{name}\n")
        (place / "max_energy_range_uj").write_text("1000000000\n")
        (place / "energy_uj").write_text("0\n")
    return tmp_path


def count(rapl: Path, domain: str, joules: float) -> None:
    (rapl / f"intel-rapl:{domain}" / "energy_uj").write_text(f"{round(joules * 1e6)}\n")


def test_packages_are_summed_while_the_clock_runs(rapl: Path) -> None:
    meter = EnergyMeter(CPU, rapl=rapl)
    clock = Clock(CPU, meter=meter)
    count(rapl, "0", 100)
    clock.start()
    for domain, joules in (("0", 130), ("0:0", 20), ("1", 12), ("2", 70)):
        count(rapl, domain, joules)
    clock.stop()
    count(rapl, "0", 500)  # an evaluation
    clock.start()
    count(rapl, "0", 501)
    clock.stop()
    assert meter.joules == pytest.approx(30 + 12 + 1)


def test_a_counter_may_begin_at_0_again(rapl: Path) -> None:
    meter = EnergyMeter(CPU, rapl=rapl)
    count(rapl, "0", 990)
    meter.start()
    count(rapl, "0", 15)
    meter.stop()
    assert meter.joules == pytest.approx(25)


def test_nothing_is_told_where_not_all_can_be_read(rapl: Path) -> None:
    meter = EnergyMeter(CPU, rapl=rapl)
    meter.start()
    (rapl / "intel-rapl:1" / "energy_uj").unlink()
    meter.stop()
    assert meter.joules is None
    assert EnergyMeter(CPU, rapl=rapl).joules is None
    assert EnergyMeter(CPU, rapl=rapl / "nowhere").joules is None
    assert EnergyMeter(torch.device("meta"), rapl=rapl).joules is None


def test_a_gpu_is_found_by_its_uuid_and_counted_in_joules(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([5_000, 5_000, 47_000])
    nvml = SimpleNamespace(
        NVMLError=type("NVMLError", (Exception,), {}),
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: {"GPU-12ab": next(readings)}[handle],
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: SimpleNamespace(uuid="12ab"))
    meter = EnergyMeter(torch.device("cuda", 0))
    meter.start()
    meter.stop()
    assert meter.joules == 42.0


def test_a_gpu_that_does_not_tell_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    error = type("NVMLError", (Exception,), {})

    def refuse(uuid: str) -> None:
        raise error("not supported")

    nvml = SimpleNamespace(NVMLError=error, nvmlInit=lambda: None, nvmlDeviceGetHandleByUUID=refuse)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: SimpleNamespace(uuid="12ab"))
    assert EnergyMeter(torch.device("cuda", 0)).joules is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert EnergyMeter(torch.device("cuda", 0)).joules is None
