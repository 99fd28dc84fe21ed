"""What a training on a processor has freed stays with its process, for the next step."""

from __future__ import annotations

import ctypes
import os
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_NEVER, _LARGEST = -1, 1 << 30
_OWN_WORDS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory, where it is the GNU one (nearly all of Linux).

    A step of a training frees its activations and the next one asks for the same again. By default the library gives
    such large pieces back to the system, which clears each page anew when it is next touched: a tenth of a small
    ResNet's step (docs/overhead.md). The most that a process occupies stays what it was; it occupies that to its end.

    Returns:
        Whether it does now. Not with another C library, and where the environment has settings of the user's own
        (`MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_THRESHOLD_`, `GLIBC_TUNABLES`), which stay in force.

    Example:
        >>> keep_freed_memory() in (True, False)
        True
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _OWN_WORDS):
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(_MMAP_THRESHOLD, _LARGEST) and library.mallopt(_TRIM_THRESHOLD, _NEVER))
