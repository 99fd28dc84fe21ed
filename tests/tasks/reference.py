"""What the code under test does, as a person would write it for one sample."""

from __future__ import annotations

_ALL_BITS = 2**64 - 1


def reference_below(limit: int, sample: int, *, seed: int, epoch: int, stream: int) -> int:
    """One draw in Python's unbounded whole numbers: splitmix64's mixing of one number after the other."""
    state = seed
    for number in (epoch, sample, stream):
        state = (state * 0x9E3779B97F4A7C15 + number + 1) & _ALL_BITS
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _ALL_BITS
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _ALL_BITS
        state ^= state >> 31
    return (state >> 33) % limit
