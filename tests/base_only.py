"""An environment that holds what a plain `pip install headstart` brings, and nothing else.

The wheel is built and installed into it. The packages that it needs, those of its metadata and of what these require in
turn, without extras, are links to those that are installed here: nothing is fetched.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent


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


def link_packages(names: Iterable[str], site: Path) -> None:
    """Link what these packages installed here into another environment's folder of packages."""
    for name in names:
        package = distribution(name)
        tops = {file.parts[0] for file in package.files or [] if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            target = site / top
            if not target.exists():
                target.symlink_to(Path(str(package.locate_file(top))))


def build_wheel(folder: Path) -> Path:
    """Build the project's wheel."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def base_environment(folder: Path, *, also: Iterable[str] = ()) -> Path:
    """Make the environment, and return its Python.

    Args:
        folder: Gets it.
        also: Requirements of the user's own script.
    """
    venv.create(folder / "venv", symlinks=os.name != "nt")
    python = folder / "venv" / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*command, str(build_wheel(folder))], check=True, capture_output=True, text=True)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    link_packages(closure([*base_requirements(), *also]), site)
    return python
