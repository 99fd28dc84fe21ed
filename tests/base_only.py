"""A Python that finds only what a plain `pip install headstart` brings.

The packages are those of pyproject's `dependencies` and of what these require in turn, as their own metadata say; the
extras are left out. What else is installed cannot be imported in that Python, nor in those that it starts.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
_CUSTOMIZE = """
import sys

HIDDEN = {hidden!r}


class Hides:
    def __init__(self, finder):
        self._finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else self._finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self._finder, name)


sys.meta_path[:] = map(Hides, sys.meta_path)
"""


def base_requirements() -> list[str]:
    """The dependencies of pyproject."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return list(content["project"]["dependencies"])


def closure(requirements: Iterable[str]) -> set[str]:
    """The names of packages that these and what they require bring."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name in found or (wanted.marker is not None and not wanted.marker.evaluate({"extra": ""})):
            continue
        try:
            below = requires(name) or []
        except PackageNotFoundError:
            continue  # of another platform
        found.add(name)
        waiting += map(Requirement, below)
    return found


def hidden_modules(allowed: set[str]) -> set[str]:
    """Top-level modules that only packages bring which are not allowed."""
    return {
        module
        for module, packages in packages_distributions().items()
        if module.isidentifier() and not {canonicalize_name(name) for name in packages} & {*allowed, "headstart"}
    }


def base_environment(folder: Path, *, also: Iterable[str] = ()) -> dict[str, str]:
    """The environment of a Python with the base alone.

    Args:
        folder: Gets the module that hides the rest.
        also: Requirements of the user's own script.
    """
    hidden = hidden_modules(closure([*base_requirements(), *also])) - set(sys.stdlib_module_names)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_CUSTOMIZE.format(hidden=sorted(hidden)), encoding="utf-8")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "src")])}
