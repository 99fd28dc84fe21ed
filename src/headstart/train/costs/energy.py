"""Energy of training, where the machine tells: by NVML for an NVIDIA GPU, by RAPL for a processor."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

_RAPL = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Counter:
    """Joules since some moment; from `wrap` on it begins at 0 again."""

    read: Callable[[], float]
    wrap: float = float("inf")

    def between(self, before: float, after: float) -> float:
        """What was counted between two readings, no more than one wrap apart."""
        return after - before if after >= before else after - before + self.wrap


class EnergyMeter:
    """Joules that the device which trains takes between `start` and `stop`: all of it, whoever else uses it.

    A GPU's counter is read through `nvidia-ml-py`, if that is installed. A processor's are files that on many systems
    only root may read, and virtual machines have none. Where nothing can be read, or a reading fails, nothing is told.

    Args:
        device: The device.
        rapl: Where the kernel keeps the processor's counters.

    Example:
        >>> meter = EnergyMeter(torch.device("cpu"), rapl=Path("nowhere"))
        >>> meter.start(); meter.stop(); meter.joules is None
        True
    """

    def __init__(self, device: torch.device, *, rapl: Path = _RAPL) -> None:
        self._counters = _gpu(device) if device.type == "cuda" else _packages(rapl) if device.type == "cpu" else []
        self._before: list[float] = []
        self._joules = 0.0

    @property
    def joules(self) -> float | None:
        """Joules so far; None where they are not known."""
        return self._joules if self._counters else None

    def give_up(self) -> None:
        """Tell nothing: not all of training was measured."""
        self._counters = []

    def start(self) -> None:
        """Count from now on."""
        self._before = self._read()

    def stop(self) -> None:
        """Count no more."""
        for counter, before, after in zip(self._counters, self._before, self._read(), strict=False):
            self._joules += counter.between(before, after)

    def _read(self) -> list[float]:
        try:
            return [counter.read() for counter in self._counters]
        except (OSError, ValueError, RuntimeError):
            self.give_up()
            return []


def _packages(rapl: Path) -> list[Counter]:
    """The processor's packages. Their parts (cores, memory) have counters below and are in them already."""
    found = []
    for place in sorted(rapl.glob("*-rapl:*")):
        try:
            if re.fullmatch(r"[a-z]+-rapl:\d+", place.name) and (place / "name").read_text().startswith("package"):
                wrap = int((place / "max_energy_range_uj").read_text()) / 1e6
                counter = Counter(lambda file=place / "energy_uj": int(file.read_text()) / 1e6, wrap)  # type: ignore[misc]
                counter.read()
                found.append(counter)
        except (OSError, ValueError):
            return []
    return found


def _gpu(device: torch.device) -> list[Counter]:
    try:
        import pynvml
    except ImportError:
        return []

    def read() -> float:
        try:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
        except pynvml.NVMLError as error:
            raise RuntimeError(str(error)) from error

    try:
        pynvml.nvmlInit()
        # Not by number: CUDA_VISIBLE_DEVICES renumbers torch's devices and not NVML's.
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        read()
    except (pynvml.NVMLError, RuntimeError, AttributeError):
        return []  # a part of a GPU (MIG), an old one, or a torch that does not tell the UUID
    return [Counter(read)]
