"""A training in cycles, each with a complete schedule and twice as long as the one before.

Source: Portes et al., "Fast Benchmarking of Accuracy vs. Training Time with Cyclic Learning Rates", arXiv 2206.00832.
"""

from __future__ import annotations

import math


def number_of_cycles(length: float, first_cycle: float) -> int:
    """How many cycles a training has.

    Args:
        length: Of the training, in any unit.
        first_cycle: Length of the first cycle, in the same unit.

    Raises:
        ValueError: The training would end in the middle of a cycle; says which lengths would do.

    Example:
        >>> [number_of_cycles(length, 8) for length in (8, 24, 56, 120)]
        [1, 2, 3, 4]
    """
    cycles = round(math.log2(length / first_cycle + 1))
    if cycles < 1 or not math.isclose(length, first_cycle * (2**cycles - 1), rel_tol=1e-9):
        enough = max(2, math.ceil(math.log2(length / first_cycle + 1)))
        would_do = ", ".join(f"{first_cycle * (2**number - 1):g}" for number in range(1, enough + 1))
        raise ValueError(
            f"{length:g} ends in the middle of a cycle: the first is {first_cycle:g} long and each further one twice "
            f"as long as the one before, so that a training may be {would_do} and so on"
        )
    return cycles


def cycle_at(step: int, total_steps: int, cycles: int) -> tuple[int, int]:
    """The cycle that a step is in.

    Args:
        step: Counted from 0; one past the end counts with the last cycle.
        total_steps: Of the whole training; the cycles share them out without a rest.
        cycles: Their number.

    Returns:
        The cycle's first step, and how many steps it has.

    Example:
        >>> [cycle_at(step, total_steps=21, cycles=3) for step in (0, 2, 3, 8, 9, 20, 21)]
        [(0, 3), (0, 3), (3, 6), (3, 6), (9, 12), (9, 12), (9, 12)]
    """
    shortest = total_steps // (2**cycles - 1)
    number = min((step // shortest + 1).bit_length(), cycles) - 1
    return shortest * (2**number - 1), shortest * 2**number


def cycle_ends(total_steps: int, cycles: int) -> list[int]:
    """The steps done at the end of each cycle: the troughs of the learning rate.

    Example:
        >>> cycle_ends(total_steps=21, cycles=3)
        [3, 9, 21]
    """
    shortest = total_steps // (2**cycles - 1)
    return [shortest * (2**number - 1) for number in range(1, cycles + 1)]
