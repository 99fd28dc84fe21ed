"""The most memory that a piece of work needs at a time, beyond what was there before."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path

import torch

Prepare = Callable[[], Callable[[], object]]


def peak_bytes(prepare: Prepare, device: torch.device) -> int:
    """What a call adds to the memory in use, at its highest.

    On the CPU (Linux only) it is what the kernel saw the process occupy, so that nothing escapes it, scratch space of
    libraries included; in a new process, as memory that was freed before may be used again without a trace.

    Args:
        prepare: Makes the inputs and returns the work; a function of a module's top level, or a partial of one.
        device: Where the work happens.
    """
    if device.type == "cuda":
        return _peak_on_cuda(prepare, device)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_here, (prepare,))


def peak_allocated(work: Callable[[], object], device: torch.device) -> int:
    """What a call in this process adds to the memory that tensors take, at its highest, scratch space excepted.

    On the CPU it is the sum of what its allocator reports to torch's profiler: each allocation, those inside operators
    and backward passes too, in order. It is the same number each time.

    Args:
        work: The call. It has been made before, so that what it keeps is there.
        device: Where the work happens.

    Example:
        >>> peak_allocated(lambda: torch.zeros(2**10) + torch.zeros(2**10), torch.device("cpu")) >= 3 * 2**12
        True
    """
    if device.type == "cuda":
        return _peak_on_cuda(lambda: work, device)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        work()
    results = profile.profiler.kineto_results
    events = [event for event in results.events() if event.name() == "[memory]"]
    highest = taken = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        taken += event.nbytes()
        highest = max(highest, taken)
    return highest


def _peak_here(prepare: Prepare) -> int:
    work = prepare()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # gives back what is free
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark falls to what is in use
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None, field
    return int(found[1]) * 1024


def _peak_on_cuda(prepare: Prepare, device: torch.device) -> int:
    work = prepare()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    return torch.cuda.max_memory_allocated(device) - before
