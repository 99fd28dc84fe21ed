"""Pools that do not fit on the device: their teachers wait elsewhere, and two at most are on it."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from headstart.distill.pool.teacher import Teacher
from headstart.errors import TeacherError

_ALIGNMENT = 512  # bytes: what CUDA's allocator gives
_PART = 1 << 24  # bytes copied from a file at a time: so much of it is in memory beside the two teachers


class Stream:
    """Two places on the device, and the teachers that take turns in them.

    While the teacher in one of them works, the next one is copied into the other: by a thread, and on CUDA on a stream
    of its own. The modules stay what they are, their tensors change the memory that they look at. A module that waits
    is whole as well, on the host: in pinned memory, or in files of a length of its own that are mapped into memory and
    vanish with the process.

    Args:
        spool: Folder for files to wait in. Default: pinned memory where there is CUDA; without, as memory of the host
            and of the device are one, files in the system's temporary folder.
    """

    def __init__(self, spool: str | os.PathLike[str] | None = None) -> None:
        self._spool = spool
        self._waiting: dict[object, _Waiting] = {}
        self._places: list[_Place] = []  # the one whose teacher works, then the other
        self._copier = ThreadPoolExecutor(1, "headstart-stream")

    def admit(self, teacher: Teacher) -> None:
        """Take a teacher in, off the device, before any is brought.

        Raises:
            TeacherError: It has a device of its own, shares weights with another or keeps them in a special form, or
                the host's memory, or the spool folder, cannot hold it.
        """
        if teacher.device is not None:
            raise TeacherError(
                f"teacher {teacher.name!r} stays on {teacher.device}, but residence='stream' brings teachers to the "
                "student's device; leave its device out, or set residence='device'"
            )
        others = {id(tensor) for other in self._waiting.values() for tensor in other.tensors}
        if any(id(tensor) in others for tensor in _tensors(teacher.module)):
            raise TeacherError(
                f"teacher {teacher.name!r} shares weights with another; residence='stream' cannot take one away and "
                "leave the other. Give each its own, or set residence='device'"
            )
        self._waiting[teacher] = _Waiting(teacher, self._spool)

    def bring(self, teacher: object, device: torch.device, then: object) -> bool:
        """Have a teacher on the device, and start to copy the one that is asked next.

        Args:
            teacher: The one to be asked now.
            device: Where.
            then: The one after it. A wrong guess costs time and nothing else.

        Returns:
            Whether it is one of those admitted.
        """
        waiting, following = self._waiting.get(teacher), self._waiting.get(then)
        if waiting is None:
            return False
        self._make_places(device)
        if self._places[0].holds is not waiting:
            self._places[1].fill(waiting, self._copier)
            self._places.reverse()
        self._places[0].enter()
        if following not in (None, waiting):
            self._places[1].fill(following, self._copier)
        return True

    def _make_places(self, device: torch.device) -> None:
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        if self._places and self._places[0].buffer.device == device:
            return
        for place in self._places:
            place.leave()
        size = max(waiting.block.numel() for waiting in self._waiting.values())
        self._places = [_Place(size, device) for _ in range(2)]


class _Part(NamedTuple):
    """Where one tensor lies in a block, and how."""

    offset: int
    length: int
    dtype: torch.dtype
    shape: torch.Size
    strides: tuple[int, ...]

    def of(self, block: Tensor) -> Tensor:
        flat = block[self.offset : self.offset + self.length].view(self.dtype)
        return flat.as_strided(self.shape, self.strides)


class _Waiting:
    """A teacher's weights and buffers in one block on the host, where they stay whoever works."""

    def __init__(self, teacher: Teacher, spool: str | os.PathLike[str] | None) -> None:
        self.teacher = teacher
        self.tensors = list(_tensors(teacher.module))
        self._parts = list(_parts(teacher, self.tensors))
        last = self._parts[-1] if self._parts else None
        size = max(1, last.offset + last.length if last is not None else 0)
        self._file: mmap.mmap | None = None
        if spool is None and torch.cuda.is_available():
            self.block = self._new_pinned(size)
        else:
            self._file = self._new_file(size, spool)
            self.block = torch.frombuffer(self._file, dtype=torch.uint8)
        self._home = self.views(self.block)
        for tensor, view in zip(self.tensors, self._home, strict=True):
            view.copy_(tensor.detach())
        self.look_at(self._home)
        self._put_down(0, size)

    def views(self, block: Tensor) -> list[Tensor]:
        """The tensors in a block that holds what this one does."""
        return [part.of(block) for part in self._parts]

    def look_at(self, views: list[Tensor]) -> None:
        """Have the module's tensors look at other memory."""
        for tensor, view in zip(self.tensors, views, strict=True):
            if tensor.dtype != view.dtype:
                raise TeacherError(
                    f"teacher {self.teacher.name!r}: its weights were made {tensor.dtype} after it was put into a pool "
                    "with residence='stream'; convert them before, or with Teacher(dtype=...)"
                )
            tensor.data = view

    def go_home(self) -> None:
        """Have them look at the host's memory again."""
        self.look_at(self._home)

    def copy_to(self, buffer: Tensor) -> None:
        """Copy the block; the memory that a file's pages take meanwhile is given back."""
        if self._file is None:
            buffer[: self.block.numel()].copy_(self.block, non_blocking=True)
            return
        for start in range(0, self.block.numel(), _PART):
            part = self.block[start : start + _PART]
            buffer[start : start + _PART][: part.numel()].copy_(part)
            self._put_down(start, part.numel())

    def _put_down(self, start: int, length: int) -> None:
        """Give back the memory that these pages of a file take; what they hold stays in the file."""
        if self._file is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._file.madvise(mmap.MADV_DONTNEED, start, length)

    def _new_pinned(self, size: int) -> Tensor:
        try:
            return torch.empty(size, dtype=torch.uint8, pin_memory=True)
        except RuntimeError as error:
            raise TeacherError(
                f"teacher {self.teacher.name!r}: the host's memory cannot hold its {size} bytes, pinned "
                f"({str(error).partition(chr(10))[0]}); give spool= a folder, where teachers then wait in files"
            ) from None

    def _new_file(self, size: int, spool: str | os.PathLike[str] | None) -> mmap.mmap:
        try:
            with tempfile.TemporaryFile(dir=spool) as file:
                file.truncate(size)
                if hasattr(os, "posix_fallocate"):  # or a full disk would end the process, when it writes to the map
                    os.posix_fallocate(file.fileno(), 0, size)
                return mmap.mmap(file.fileno(), size)
        except OSError as error:
            raise TeacherError(
                f"teacher {self.teacher.name!r}: {spool or tempfile.gettempdir()} cannot hold its {size} bytes "
                f"({error.strerror or error}); give spool= another folder"
            ) from None


class _Place:
    """Memory of the device for one teacher at a time."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.buffer = torch.empty(size, dtype=torch.uint8, device=device)
        self.holds: _Waiting | None = None
        self._entered = False
        self._filled: Future[torch.cuda.Event | None] | None = None
        self._views: dict[_Waiting, list[Tensor]] = {}
        self._users: set[torch.cuda.Stream] = set()
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        if self._side is not None:
            # What the memory was used for before may still go on, on the stream that it is taken from.
            self._side.wait_stream(torch.cuda.current_stream(device))
            self.buffer.record_stream(self._side)  # it is not used for other things while a copy goes on

    def fill(self, waiting: _Waiting, copier: ThreadPoolExecutor) -> None:
        """Start to copy a teacher here, unless it is here already or on its way."""
        if self.holds is waiting:
            return
        self.leave()
        self.holds = waiting
        before = [user.record_event() for user in self._users]  # the last teacher's work is over
        self._users.clear()
        self._filled = copier.submit(self._copy, waiting, before)

    def enter(self) -> None:
        """Wait for the copy (on CUDA the stream waits, and not the host) and have the module use it."""
        assert self.holds is not None and self._filled is not None
        event = self._filled.result()
        if event is not None:
            stream = torch.cuda.current_stream(self.buffer.device)
            stream.wait_event(event)
            self._users.add(stream)
        if not self._entered:
            if self.holds not in self._views:
                self._views[self.holds] = self.holds.views(self.buffer)
            self.holds.look_at(self._views[self.holds])
            self._entered = True

    def leave(self) -> None:
        """Have the module use the host's memory again."""
        if self._filled is not None:
            self._filled.result()
        if self.holds is not None and self._entered:
            self.holds.go_home()
        self.holds, self._entered = None, False

    def _copy(self, waiting: _Waiting, before: list[torch.cuda.Event]) -> torch.cuda.Event | None:
        if self._side is None:
            waiting.copy_to(self.buffer)
            return None
        with torch.cuda.stream(self._side):
            for event in before:
                self._side.wait_event(event)
            waiting.copy_to(self.buffer)
            copied: torch.cuda.Event = self._side.record_event()
        return copied


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    return chain(module.parameters(), module.buffers())


def _parts(teacher: Teacher, tensors: list[Tensor]) -> Iterator[_Part]:
    offset = 0
    for tensor in tensors:
        if type(tensor) not in (Tensor, nn.Parameter) or tensor.is_meta:
            raise TeacherError(
                f"teacher {teacher.name!r} keeps weights as {type(tensor).__name__} on {tensor.device}, which "
                "residence='stream' cannot copy; give plain tensors, or set residence='device'"
            )
        alike = torch.empty_like(tensor, device="meta")  # dense, in the order that the tensor has
        part = _Part(offset, alike.numel() * alike.element_size(), tensor.dtype, tensor.shape, alike.stride())
        yield part
        offset = -(-(offset + part.length) // _ALIGNMENT) * _ALIGNMENT
