"""Random generators, left as they were: what training draws is what it would have drawn without headstart."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def generators_untouched() -> Iterator[None]:
    """Put the global generators back afterwards: Python's, numpy's where it is loaded, torch's on all devices.

    Example:
        >>> before = torch.get_rng_state()
        >>> with generators_untouched():
        ...     _ = torch.nn.Linear(2, 3), random.random()
        >>> torch.equal(torch.get_rng_state(), before)
        True
    """
    restore = noted()
    try:
        yield
    finally:
        restore()


def noted() -> Callable[[], None]:
    """What puts the global generators back to where they are now.

    Example:
        >>> restore = noted()
        >>> drawn = torch.rand(2)
        >>> restore()
        >>> torch.equal(torch.rand(2), drawn)
        True
    """
    python, torch_cpu = random.getstate(), torch.get_rng_state()
    numpy: Any = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy is not None else None
    restore_devices = _devices()

    def restore() -> None:
        random.setstate(python)
        torch.set_rng_state(torch_cpu)
        if numpy is not None:
            numpy.random.set_state(numpy_state)
        restore_devices()

    return restore


def _devices() -> Callable[[], None]:
    """What puts back the generators of accelerators; a device that nothing has used is not woken for it."""
    kind = torch.accelerator.current_accelerator()
    if kind is None:
        return lambda: None
    module: Any = torch.get_device_module(kind)
    if not hasattr(module, "get_rng_state_all"):  # one device, as Apple's
        state = module.get_rng_state()
        return lambda: module.set_rng_state(state)
    if module.is_initialized():
        states = module.get_rng_state_all()
        return lambda: module.set_rng_state_all(states)

    def rewind() -> None:
        """Nothing had been drawn before: back to the seed."""
        for generator in module.default_generators if module.is_initialized() else ():
            generator.manual_seed(generator.initial_seed())

    return rewind
