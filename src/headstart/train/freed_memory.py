"""What a training on a processor has freed stays with its process, for the next step."""

from __future__ import annotations

import ctypes
import os
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_NEVER = -1
_LARGEST = (1 << 30, 1 << 25)  # bytes; older versions take no more than the second
_OWN_WORDS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory, where it is the GNU one (most of Linux).

    A step of a training frees its activations and the next one asks for the same again. By default the library gives
    such large pieces back to the system, which clears each page anew when it is next touched: docs/overhead.md says
    what that takes of a step, and what keeping them takes of memory. The process keeps them to its end.

    Returns:
        Whether it does now. Not with another C library or allocator (`LD_PRELOAD`), and where the environment has
        settings of the user's own (`MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_THRESHOLD_`, `GLIBC_TUNABLES`), which stay.

    Example:
        >>> keep_freed_memory() in (True, False)
        True
    """
    other = "malloc" in os.environ.get("LD_PRELOAD", "")  # jemalloc, tcmalloc, mimalloc
    if other or platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _OWN_WORDS):
        return False
    library = ctypes.CDLL(None)
    mapped_rarely = any(library.mallopt(_MMAP_THRESHOLD, size) for size in _LARGEST)
    return bool(library.mallopt(_TRIM_THRESHOLD, _NEVER)) and mapped_rarely
