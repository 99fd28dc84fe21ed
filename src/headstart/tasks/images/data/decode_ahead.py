"""Images decoded by worker processes, before they are asked for."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from headstart.errors import DataError
from headstart.tasks.images.data.decode import Encoded, open_image
from headstart.tasks.images.data.transforms import Transform
from headstart.tasks.random import seed_of

# An image to decode: its row in the table, its index among the training images, the epoch.
Key = tuple[int, int, int]

# Images that a worker decodes in one go: few, so that all workers share a batch, and the first is there soon.
_CHUNK = 32


class Decoder(Dataset[Tensor | DataError]):
    """From keys to images of one size; what a transform draws follows from (seed, epoch, sample).

    Args:
        images: As they are stored.
        origin: Where they come from, for messages.
        transform: From an image in RGB to uint8 `[3, height, width]`.
        seed: The run's.
    """

    def __init__(self, images: Sequence[Encoded], origin: str, transform: Transform, *, seed: int) -> None:
        self._images, self._origin, self._transform, self._seed = images, origin, transform, seed

    def __getitem__(self, key: Key) -> Tensor | DataError:
        """The image; an error is handed over, because the DataLoader would wrap it in a worker's traceback."""
        row, sample, epoch = key
        encoded = self._images[row]
        where = str(encoded) if isinstance(encoded, Path) else f"{self._origin}: image {row}"
        try:
            image = open_image(encoded, where)
        except DataError as error:
            return error
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(seed_of(self._seed, epoch, sample))  # of the CPU only
            return self._transform(image if image.mode == "RGB" else image.convert("RGB"))


class Keys(Protocol):
    """Tells which images a part of a step is made of."""

    def __call__(self, step: int, *, size: int, part: int, parts: int) -> Sequence[Key]:
        """See `Task.batch`."""
        ...  # pragma: no cover


class DecodeAhead:
    """Micro-batches by step and part. Who asks for one step after the other gets them from workers.

    The first step is decoded by this process, so that a single look at a batch starts no workers. With the step after
    it these begin to decode what will be asked for: the same parts of each further step. A step out of turn, as after a
    resume, begins anew. Nothing but the time depends on it.

    Args:
        decoder: Decodes single images.
        keys: Tells which these are.
        workers: Processes; with 0 this one decodes.
        pinned: Whether batches go into memory from which CUDA copies them while it computes.
    """

    def __init__(self, decoder: Decoder, keys: Keys, *, workers: int, pinned: bool) -> None:
        self._decoder, self._keys, self._workers, self._pinned = decoder, keys, workers, pinned
        self._step = (-1, 0, 0)
        self._held: dict[int, list[Tensor]] = {}  # the present step's, by part
        self._order: tuple[int, ...] = ()  # parts of each step, as workers make them
        self._coming: Iterator[list[Tensor | DataError]] | None = None

    def __call__(self, step: int, size: int, part: int, parts: int) -> list[Tensor]:
        """The images of a part of a step, uint8 `[up to 32, 3, height, width]` each.

        Raises:
            DataError: One cannot be decoded.
        """
        if (step, size, parts) != self._step:
            self._go_to(step, size, parts)
        if part not in self._held:
            foreseen = (*self._held, part) == self._order[: len(self._held) + 1]
            if self._coming is not None and foreseen:
                chunks = next(self._coming)
            else:
                keys = self._keys(step, size=size, part=part, parts=parts)
                chunks = [_stacked([self._decoder[key] for key in chunk]) for chunk in _chunks(keys)]
            self._held[part] = [_checked(chunk) for chunk in chunks]
        return self._held[part]

    def _go_to(self, step: int, size: int, parts: int) -> None:
        asked, in_turn = tuple(self._held), self._step == (step - 1, size, parts)
        if not in_turn or asked != self._order:
            self._coming, self._order = None, ()
        if self._coming is None and in_turn and asked and self._workers:
            self._order = asked
            plan = partial(self._keys, size=size, parts=parts)
            self._coming = _coming(plan, step, asked, partial(_load, self._decoder, self._workers, self._pinned))
        self._step, self._held = (step, size, parts), {}


def decode_all(decoder: Decoder, batches: Sequence[Sequence[Key]], *, workers: int) -> Iterator[Tensor]:
    """Decode batches in their order, each into one tensor.

    Raises:
        DataError: An image cannot be decoded.
    """
    return map(_checked, _load(decoder, workers, False, batches))


def _coming(
    keys: Callable[..., Sequence[Key]],
    first: int,
    order: Sequence[int],
    load: Callable[[Iterable[Sequence[Key]]], Iterator[Tensor | DataError]],
) -> Iterator[list[Tensor | DataError]]:
    """The chunks of all micro-batches from a step on. No method: whoever drops it ends the workers at once."""
    places = ((step, part) for step in itertools.count(first) for part in order)
    count = len(list(_chunks(keys(first, part=order[0]))))
    chunks = load(chunk for step, part in places for chunk in _chunks(keys(step, part=part)))
    while True:
        yield [next(chunks) for _ in range(count)]


def _load(
    decoder: Decoder, workers: int, pinned: bool, batches: Iterable[Sequence[Key]]
) -> Iterator[Tensor | DataError]:
    loader: DataLoader[Any] = DataLoader(
        decoder,
        batch_sampler=batches,  # type: ignore[arg-type]  # any iterable of lists will do
        num_workers=workers,
        collate_fn=_stacked,
        pin_memory=pinned,
        worker_init_fn=_end_with_the_parent_only,
        generator=torch.Generator(),  # or the seed of the workers would be drawn from the model's generator
    )
    return iter(loader)


def _end_with_the_parent_only(worker: int) -> None:
    """In a worker: of all SIGTERMs obey the parent's.

    torchrun and batch systems send it to every process there is. The training process then finishes its step and
    writes a checkpoint, for which it needs its workers.
    """
    parent = multiprocessing.parent_process()
    if parent is None or not hasattr(signal, "sigwaitinfo"):  # macOS has none
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_wait_for_end, args=(parent.pid,), daemon=True).start()


def _wait_for_end(parent: int | None) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def _chunks(keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
    return (keys[begin : begin + _CHUNK] for begin in range(0, len(keys), _CHUNK))


def _stacked(images: Sequence[Tensor | DataError]) -> Tensor | DataError:
    """The images as one tensor, or the first error."""
    good = []
    for image in images:
        if isinstance(image, DataError):
            return image
        good.append(image)
    stacked: Tensor = default_collate(good)  # in a worker, in memory that it shares
    return stacked


def _checked(images: Tensor | DataError) -> Tensor:
    if isinstance(images, DataError):
        raise images
    return images
