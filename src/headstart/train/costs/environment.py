"""Where a run ran: for its record."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

import torch

_PACKAGES = ("headstart", "torch", "accelerate", "numpy")


def device_name(device: torch.device) -> str:
    """The device as people call it, with its number of threads where it is a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"CPU {_processor()}, {torch.get_num_threads()} threads"
    return device.type


def environment(device: torch.device) -> dict[str, str]:
    """Device, platform, versions and, inside a git work tree, its revision."""
    facts = {"device": device_name(device), "platform": platform.platform(), "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    if revision := _git_revision():
        facts["git revision"] = revision
    return facts


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return f"{platform.machine()} with {os.cpu_count()} cores"


def _git_revision() -> str:
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
