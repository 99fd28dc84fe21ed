"""Cache files for cache.py: of a given number of records, with what a confident teacher would give."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from headstart.cache import Fingerprint, Keep
from headstart.cache.container import Header
from headstart.cache.source import cache_file
from headstart.cache.writer import CacheWriter
from headstart.distill.targets.source import Keys

TEMPERATURE = 4.0


def peaked_logits(rows: int, classes: int, *, seed: int = 0) -> Tensor:
    """Logits of a confident teacher, `[rows, classes]` of float32.

    Most rows have one class far above the others, a few close behind, and noise with a long tail below; classes differ
    in how common they are as words do (Zipf's law). At temperature 1 the first class has a probability of about a half
    in the median row.
    """
    generator = torch.Generator().manual_seed(seed)
    prior = -torch.arange(1, classes + 1, dtype=torch.float32).log()
    logits = prior + 1.5 * torch.randn(rows, classes, generator=generator)
    places = torch.randint(classes, (rows, 8), generator=generator)
    heights = 12.0 * torch.rand(rows, 8, generator=generator)
    return logits.scatter_add(1, places, heights)


def write_blocks(folder: Path, logits: Tensor, keep: Keep, *, samples: int, blocks: int) -> list[Keys]:
    """Write a cache in which every block holds the same targets, for samples of its own.

    Args:
        folder: The cache folder; the teacher is called "old".
        logits: Of a block, `[rows, classes]`.
        keep: What to keep.
        samples: Of a block; divides the rows.
        blocks: How many.

    Returns:
        The keys of each block.
    """
    form = keep.format(logits, TEMPERATURE)
    header = Header(
        teacher="old",
        fingerprint=Fingerprint(
            data={"name": "made up", "seed": 0}, inputs=[0.5, -0.5], teacher={"weights": "0" * 32}, prepared=[1.0]
        ),
        rows=form,
        rows_per_sample=len(logits) // samples,
        batch_size=samples,
        parts=1,
        versions={},
    )
    uniforms = torch.rand(len(logits), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = form.encode(logits, uniforms).numpy()
    keys = [Keys(torch.arange(samples) + block * samples, 0) for block in range(blocks)]
    with CacheWriter(cache_file(folder, "old"), header, [(block, 0) for block in range(blocks)]) as writer:
        for key in keys:
            writer.append(key, rows)
    return keys


def bytes_per_row(folder: Path, logits: Tensor, keep: Keep, *, samples: int, blocks: int) -> float:
    """Of a whole file, with all that is not records, by the number of its records."""
    write_blocks(folder, logits, keep, samples=samples, blocks=blocks)
    return cache_file(folder, "old").stat().st_size / (len(logits) * blocks)
