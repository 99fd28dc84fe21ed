"""Damage done to cache files at random, for cache.py: is any of it overlooked?"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from cache_files import peaked_logits, write_blocks

from headstart.cache import CachedTeacher, Fingerprint, Keep
from headstart.cache.reader import CacheFile
from headstart.cache.source import cache_file
from headstart.distill import kl
from headstart.distill.targets.source import Keys, Use
from headstart.errors import HeadstartError

KEPT = [Keep("full"), Keep("top-k", 5), Keep("sampled", 8)]
SAMPLES, BLOCKS, CLASSES = 6, 4, 50

Damage = Callable[[bytes, CacheFile, random.Random], bytes]


def change_byte(whole: bytes, file: CacheFile, chance: random.Random) -> bytes:
    """Another value for one byte."""
    place = chance.randrange(len(whole))
    return whole[:place] + bytes([whole[place] ^ chance.randrange(1, 256)]) + whole[place + 1 :]


def truncate(whole: bytes, file: CacheFile, chance: random.Random) -> bytes:
    """Only the first so many bytes."""
    return whole[: chance.randrange(len(whole))]


def change_header(whole: bytes, file: CacheFile, chance: random.Random) -> bytes:
    """A sound header of something else: of another teacher, other data, another seed, or another temperature."""
    header = file.header
    told = header.fingerprint.model_dump()
    change = chance.choice(
        ["teacher", "name", "seed", "inputs", "prepared", "temperature" if header.rows.kind != "full" else "seed"]
    )
    if change == "temperature":
        other = header.model_copy(
            update={"rows": header.rows.model_copy(update={"temperature": 1.0 + chance.random()})}
        )
    else:
        told["teacher"] = {"weights": f"{chance.getrandbits(128):032x}"} if change == "teacher" else told["teacher"]
        told["data"] |= {change: chance.randrange(1, 1 << 30)} if change in ("name", "seed") else {}
        told |= {change: [chance.gauss(0, 1)]} if change in ("inputs", "prepared") else {}
        other = header.model_copy(update={"fingerprint": Fingerprint.model_validate(told)})
    return other.preamble + whole[len(header.preamble) :]


def count_unnoticed(folder: Path, tries: int) -> int:
    """How many of so many damaged files are read to the end without complaint: byte changes, truncations, headers.

    Raises:
        ArithmeticError: A file is refused without any damage, so that nothing could be learnt from it.
    """
    chance = random.Random(0)
    damages: list[Damage] = [change_byte, change_byte, change_byte, truncate, change_header]
    files = []
    for keep in KEPT:
        place = folder / str(keep.kind)
        keys = write_blocks(place, peaked_logits(SAMPLES, CLASSES), keep, samples=SAMPLES, blocks=BLOCKS)
        file = CacheFile(cache_file(place, "old"))
        if not _reads(place, file, keys):
            raise ArithmeticError(f"{place}: an undamaged file is refused")
        files.append((place, file, keys, file.path.read_bytes()))
    unnoticed = 0
    for number in range(tries):
        place, file, keys, whole = files[number % len(files)]
        damaged = folder / "damaged"
        damaged.mkdir(exist_ok=True)
        cache_file(damaged, "old").write_bytes(damages[number % len(damages)](whole, file, chance))
        unnoticed += _reads(damaged, file, keys)
    return unnoticed


def _reads(folder: Path, undamaged: CacheFile, keys: list[Keys]) -> bool:
    """Whether a training would read all of the file, expecting what the undamaged one holds."""
    try:
        teacher = CachedTeacher(folder, "old", expected=undamaged.header.fingerprint)
        teacher.check(Use(kl, temperature=4.0, standardize=False, asked=1))
        for key in keys:
            teacher.targets(None, key)
        CacheFile(cache_file(folder, "old")).check()
    except HeadstartError:
        return False
    return True
