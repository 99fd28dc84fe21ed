"""Get Fashion-MNIST (Xiao et al. 2017, MIT licence) into headstart's cache, for `make demo`.

Sources, in this order: the installed Debian package `dataset-fashion-mnist`; the same package fetched with apt into a
temporary folder (needs no root); the Hugging Face Hub. Whatever the source, the four files are checked by SHA-256.

    python tools/fashion_mnist.py            # writes <cache>/data/fashion-mnist/{train,test}.parquet
    python tools/fashion_mnist.py --out DIR  # writes DIR/{train,test}.parquet
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.console import Console
from rich.progress import track

from headstart.errors import DataError, HeadstartError
from headstart.files import write_atomically
from headstart.tasks.places import ORIGIN_FILE, cache_folder
from program import run

if TYPE_CHECKING:
    from datasets import Features
    from numpy.typing import NDArray

PACKAGE = "dataset-fashion-mnist"
INSIDE = Path("usr/share/datasets/fashion-mnist")
HUB_NAME = "zalando-datasets/fashion_mnist"
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
PREFIXES = {"train": "train", "test": "t10k"}

# Of the files as unpacked: Debian's .gz are compressed anew and so differ from the upstream ones, whose MD5 sums are
# published; their contents are the same, and the Hub's copy can be brought into the same form and checked too.
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}

Files = dict[str, bytes]
console = Console()


def main() -> int:
    """Parse the command line, get the data, say where it came from."""
    parser = argparse.ArgumentParser(description="Get Fashion-MNIST as parquet files into headstart's cache.")
    parser.add_argument(
        "--out", type=Path, default=cache_folder() / "data" / "fashion-mnist", help="the folder to write"
    )
    out: Path = parser.parse_args().out
    try:
        origin = get(out)
    except HeadstartError as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return error.exit_code
    console.print(f"Fashion-MNIST is in {out} (from {origin})", markup=False, highlight=False, soft_wrap=True)
    return 0


def get(out: Path) -> str:
    """Put the data set into `out` unless it is there, and return where it came from.

    Raises:
        DataError: No source gave the files, or what they gave has another SHA-256; says why for each source.
    """
    if all((out / name).is_file() for name in ("train.parquet", "test.parquet", ORIGIN_FILE)):
        return (out / ORIGIN_FILE).read_text(encoding="utf-8").strip()
    sources: dict[str, Callable[[], tuple[Files, str]]] = {
        f"the installed Debian package {PACKAGE}": from_installed_package,
        f"the Debian package {PACKAGE}, fetched with apt": from_apt,
        f"the Hugging Face Hub, {HUB_NAME}": from_hub,
    }
    reasons = []
    for name, source in sources.items():
        try:
            with console.status(f"Fashion-MNIST: trying {name}"):
                files, origin = source()
                check(files, origin)
        except DataError as error:
            reasons.append(f"  {name}: {error}")
            continue
        write_dataset(files, origin, out)
        return origin
    raise DataError(
        "Fashion-MNIST could not be had:\n" + "\n".join(reasons) + f"\nWith a network, install the package ({PACKAGE}) "
        f"or reach the Hub; without one, copy {out} from a machine that has it"
    )


def from_installed_package() -> tuple[Files, str]:
    """Read the four files of the package as installed."""
    return read_files("/" / INSIDE), f"Debian package {PACKAGE}, installed"


def from_apt() -> tuple[Files, str]:
    """Fetch and unpack the package, with apt's lists and cache in a temporary folder so that no root is needed."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise DataError(f"{tool} is not installed (no Debian or Ubuntu?)")
    with tempfile.TemporaryDirectory(prefix="fashion-mnist-") as name:
        folder = Path(name)
        for part in ("lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True)
        settings = {
            "Dir::State::lists": folder / "lists",
            "Dir::Cache": folder / "cache",
            "APT::Sandbox::User": "root",  # as root, apt would become a user who may not write into our folder
            "Acquire::http::Timeout": 20,
            "Acquire::https::Timeout": 20,
        }
        options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
        try:
            run(["apt-get", *options, "update"], folder)
        except DataError as error:  # one broken third-party source: the package may be had from the others
            console.print(f"{error}; going on", markup=False, highlight=False)
        run(["apt-get", *options, "download", PACKAGE], folder)
        (archive,) = folder.glob(f"{PACKAGE}_*.deb")
        run(["dpkg-deb", "-x", str(archive), str(folder / "unpacked")], folder)
        version = archive.name.split("_")[1]
        return read_files(folder / "unpacked" / INSIDE), f"Debian package {PACKAGE} {version}, fetched with apt"


def from_hub() -> tuple[Files, str]:
    """Load the data set from the Hub, in its original order, and bring it into the form of the four files."""
    import datasets

    files = {}
    for split, prefix in PREFIXES.items():
        try:
            rows = datasets.load_dataset(HUB_NAME, split=split)
        except Exception as error:  # the Hub's client raises errors of many libraries
            raise DataError(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from None
        images = np.stack([np.asarray(image) for image in rows["image"]])
        files[f"{prefix}-images-idx3-ubyte"] = to_idx(images)
        files[f"{prefix}-labels-idx1-ubyte"] = to_idx(np.asarray(rows["label"]))
    return files, f"Hugging Face Hub, {HUB_NAME}"


def read_files(folder: Path) -> Files:
    """Read and decompress the four `.gz` files of `folder`."""
    files = {}
    for name in SHA256:
        path = folder / f"{name}.gz"
        try:
            files[name] = gzip.decompress(path.read_bytes())
        except FileNotFoundError:
            raise DataError(f"there is no {path}") from None
        except (OSError, EOFError) as error:
            raise DataError(f"{path} cannot be read ({error})") from None
    return files


def check(files: Mapping[str, bytes], origin: str) -> None:
    """Compare the SHA-256 of the four files with the known ones.

    Raises:
        DataError: One differs; names the file and both sums.
    """
    for name, wanted in SHA256.items():
        found = hashlib.sha256(files[name]).hexdigest()
        if found != wanted:
            raise DataError(f"{name} from {origin} has the SHA-256 {found} where {wanted} is right; not used")


def from_idx(content: bytes) -> NDArray[np.uint8]:
    """Decode an IDX file of unsigned bytes: two zeros, type 8, the number of dimensions, the sizes, the values."""
    dimensions = content[3]
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def to_idx(values: NDArray[np.integer]) -> bytes:
    """Encode as an IDX file of unsigned bytes."""
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


def write_dataset(files: Mapping[str, bytes], origin: str, out: Path) -> None:
    """Write train.parquet and test.parquet and then, as the sign that both are whole, the file with the origin."""
    for split, prefix in PREFIXES.items():
        images = from_idx(files[f"{prefix}-images-idx3-ubyte"])
        labels = from_idx(files[f"{prefix}-labels-idx1-ubyte"])
        write_atomically(out / f"{split}.parquet", to_parquet(images, labels, f"writing {split}"))
    write_atomically(out / ORIGIN_FILE, f"{origin}\n".encode())


def to_parquet(images: NDArray[np.uint8], labels: NDArray[np.uint8], doing: str) -> bytes:
    """Encode the rows so that `datasets` reads an Image and a ClassLabel column; images as PNG."""
    pngs = [{"bytes": png(image), "path": None} for image in track(images, doing, console=console)]
    table = pa.table({"image": pngs, "label": labels.astype(np.int64)}, schema=features().arrow_schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="none")  # PNG does not compress any further
    return buffer.getvalue()


def features() -> Features:
    """Return the columns' types in the words of `datasets`."""
    import datasets

    return datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})


def png(image: NDArray[np.uint8]) -> bytes:
    """Encode one grey image."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
