"""Weights of safetensors files that are read tensor by tensor, when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from headstart.errors import TeacherError
from headstart.teachers.weights import damaged, read_index, read_weights


class LazyTensors(Mapping[str, Tensor]):
    """The tensors of one file, or of several parts; nothing but names and shapes is kept in memory.

    Args:
        files: Safetensors files.

    Attributes:
        shapes: By name.

    Raises:
        TeacherError: A file is missing, truncated or damaged; or two hold a tensor of one name.

    Example:
        >>> import tempfile, torch
        >>> from safetensors.torch import save_file
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_file({"weight": torch.ones(2, 3)}, f"{folder}/model.safetensors")
        ...     tensors = LazyTensors([Path(folder, "model.safetensors")])
        ...     tensors.shapes, float(tensors["weight"].sum())
        ({'weight': (2, 3)}, 6.0)
    """

    def __init__(self, files: list[Path]) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._files: dict[str, Path] = {}
        self._names: dict[str, str] = {}  # in their files
        for path in files:
            with _opened(path) as file:
                for name in file.keys():  # noqa: SIM118 - a file is no mapping
                    if name in self._files:
                        raise TeacherError(f"{path}: holds {name}, which {self._files[name].name} holds, too")
                    self.shapes[name] = tuple(file.get_slice(name).get_shape())
                    self._files[name] = path
                    self._names[name] = name

    def renamed(self, names: Mapping[str, str]) -> LazyTensors:
        """The same tensors under other names.

        Args:
            names: The new names by all those that the tensors have.
        """
        other = LazyTensors([])
        for old, new in names.items():
            other.shapes[new], other._files[new] = self.shapes[old], self._files[old]
            other._names[new] = self._names[old]
        return other

    def __getitem__(self, name: str) -> Tensor:
        path = self._files[name]
        # Opened for each: what a file has mapped into memory would stay there as long as it is open.
        with _opened(path) as file:
            tensor: Tensor = file.get_tensor(self._names[name])
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def lazy_weights(path: Path, *, weights: str | None = None) -> Mapping[str, Tensor]:
    """A file's tensors: read one by one from safetensors, also in parts, and at once from any other kind.

    Args:
        path: The file, or the index of its parts.
        weights: As in `read_weights`.

    Raises:
        TeacherError: As `read_weights`.
    """
    named = read_index(path) if path.suffix == ".json" else {"": path}
    files = sorted(set(named.values()))
    if not all(file.suffix == ".safetensors" for file in files):
        return read_weights(path, weights=weights)
    tensors = LazyTensors(files)
    absent = next((name for name in named if name and name not in tensors), None)
    if absent is not None:
        raise TeacherError(f"{path}: names {absent} in {named[absent].name}, which does not hold it; fetch both again")
    return tensors


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An open safetensors file; whatever is wrong with it, there or later, is told in a sentence."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise TeacherError(f"{path}: no such file; the index beside it names it")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise damaged(path, error) from None
