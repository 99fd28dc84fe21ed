"""Decoding ahead: whoever decodes, and whenever, a batch is a pure function of what is asked for."""

from __future__ import annotations

import io
import multiprocessing
import signal
import subprocess
import time
from collections.abc import Sequence

import pytest
import torch
from PIL import Image
from torch import Tensor

from headstart.errors import DataError
from headstart.tasks.images.data import decode_ahead
from headstart.tasks.images.data.decode_ahead import DecodeAhead, Decoder, Key, decode_all
from tests.tasks.images.photos import RandomPart, make_photos

SIZE, PHOTOS = 24, 60


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a micro-batch is made of several, the last of them smaller."""
    monkeypatch.setattr(decode_ahead, "_CHUNK", 5)


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    return [content for content, _ in make_photos(PHOTOS, seed=3)]


def decoder(images: Sequence[bytes], seed: int = 0) -> Decoder:
    return Decoder(images, "photos", RandomPart(8, flip=True), seed=seed)


def keys(step: int, *, size: int, part: int, parts: int) -> list[Key]:
    """Rows in turn, with another index among the training images."""
    share = size // parts
    rows = [(step * size + part * share + number) % PHOTOS for number in range(share)]
    return [(row, 1000 + row, step * size // PHOTOS) for row in rows]


def expected(images: Sequence[bytes], step: int, part: int, parts: int) -> Tensor:
    """Image by image, with nothing around it."""
    found = [decoder(images)[key] for key in keys(step, size=SIZE, part=part, parts=parts)]
    return torch.stack([image for image in found if isinstance(image, Tensor)])


IN_TURN = [(step, 0, 1) for step in range(6)]
ACCUMULATED = [(step, part, 4) for step in range(4) for part in (2, 3)]
RESUMED = [(0, 0, 1), (17, 0, 1), (18, 0, 1), (19, 0, 1)]
REPEATED = [(0, 0, 1), (0, 0, 1), (1, 0, 1), (1, 0, 1), (2, 0, 1), (2, 0, 1), (1, 0, 1), (2, 0, 1)]
OUT_OF_TURN = [(0, 0, 2), (1, 0, 2), (1, 1, 2), (2, 0, 2), (2, 1, 2), (3, 1, 2), (4, 0, 2), (0, 0, 1), (9, 1, 3)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("asked", [IN_TURN, ACCUMULATED, RESUMED, REPEATED, OUT_OF_TURN])
def test_a_batch_is_what_it_is_asked_for(asked: list[tuple[int, int, int]], workers: int, images: list[bytes]) -> None:
    ahead = DecodeAhead(decoder(images), keys, workers=workers, pinned=False)
    for step, part, parts in asked:
        assert torch.equal(torch.cat(ahead(step, SIZE, part, parts)), expected(images, step, part, parts))


def test_one_look_at_a_batch_starts_no_workers(images: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("workers were started")

    monkeypatch.setattr(decode_ahead, "_load", refuse)
    ahead = DecodeAhead(decoder(images), keys, workers=2, pinned=False)
    for step in (0, 0, 5, 3):
        ahead(step, SIZE, 0, 1)
    with pytest.raises(AssertionError, match="workers were started"):
        ahead(4, SIZE, 0, 1)


def test_workers_end_when_nobody_wants_them_any_more(images: list[bytes]) -> None:
    before = len(multiprocessing.active_children())
    ahead = DecodeAhead(decoder(images), keys, workers=2, pinned=False)
    for step in range(2):
        ahead(step, SIZE, 0, 1)
    assert len(multiprocessing.active_children()) == before + 2
    del ahead
    assert len(multiprocessing.active_children()) == before


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="needs sigwaitinfo, which macOS lacks")
def test_a_signal_to_all_processes_leaves_the_training_its_workers(images: list[bytes]) -> None:
    """As torchrun sends it to the whole group: the step under way is to be finished and kept."""
    others = set(multiprocessing.active_children())
    ahead = DecodeAhead(decoder(images), keys, workers=2, pinned=False)
    for step in range(2):
        ahead(step, SIZE, 0, 1)
    workers = [child for child in multiprocessing.active_children() if child not in others]
    subprocess.run(["kill", "-TERM", *(str(worker.pid) for worker in workers)], check=True)
    time.sleep(0.2)
    for step in range(2, 8):
        assert torch.equal(torch.cat(ahead(step, SIZE, 0, 1)), expected(images, step, 0, 1))
    assert len(workers) == 2 and all(worker.is_alive() for worker in workers)
    for worker in workers:  # their parent's own signal is obeyed
        worker.terminate()
        worker.join(300)
        assert worker.exitcode == 0


def test_whoever_resumes_decodes_nothing_of_what_was_seen(images: list[bytes]) -> None:
    planned: list[int] = []

    def noted(step: int, *, size: int, part: int, parts: int) -> list[Key]:
        planned.append(step)
        return keys(step, size=size, part=part, parts=parts)

    ahead = DecodeAhead(decoder(images), noted, workers=2, pinned=False)
    for step in (7, 8, 9):
        ahead(step, SIZE, 0, 1)
    assert min(planned) == 7
    assert max(planned) > 9  # ahead


def test_what_is_drawn_follows_from_seed_epoch_and_sample(images: list[bytes]) -> None:
    def drawn(key: Key, seed: int = 0) -> bytes:
        return bytes(torch.as_tensor(decoder(images, seed)[key]).numpy())

    first = drawn((4, 7, 2))
    torch.manual_seed(99)
    assert drawn((4, 7, 2)) == first
    others = [drawn((4, 8, 2)), drawn((4, 7, 3)), drawn((4, 7, 2), seed=1)]
    assert first not in others


@pytest.mark.parametrize("workers", [0, 2])
def test_the_models_generator_is_left_alone(workers: int, images: list[bytes]) -> None:
    ahead, before = DecodeAhead(decoder(images), keys, workers=workers, pinned=False), torch.get_rng_state()
    for step in range(3):
        ahead(step, SIZE, 0, 1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_decoded_is_named(workers: int, images: list[bytes]) -> None:
    broken = [*images[:30], b"no image", *images[31:]]
    ahead = DecodeAhead(decoder(broken), keys, workers=workers, pinned=False)
    ahead(0, SIZE, 0, 1)
    with pytest.raises(DataError, match=r"^photos: image 30 cannot be decoded"):
        ahead(1, SIZE, 0, 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_their_order(workers: int, images: list[bytes]) -> None:
    one = decoder(images)
    batches = [[(row, row, 0) for row in rows] for rows in ((3, 1, 4), (1, 5), (9, 2, 6))]
    for batch, found in zip(batches, decode_all(one, batches, workers=workers), strict=True):
        for key, image in zip(batch, found, strict=True):
            assert torch.equal(image, torch.as_tensor(one[key]))


def test_grey_images_and_palettes_are_made_rgb() -> None:
    encoded = []
    for mode in ("L", "P", "RGBA"):
        buffer = io.BytesIO()
        Image.new("RGB", (12, 12), (102, 102, 102)).convert(mode).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    found = [decoder(encoded)[row, 0, 0] for row in range(3)]
    for image in found:
        assert isinstance(image, Tensor) and image.shape == (3, 8, 8)
        assert set(image.flatten().tolist()) == {102}
