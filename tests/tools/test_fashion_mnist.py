"""The tool that fetches Fashion-MNIST, on four tiny files in the same format."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

import fashion_mnist
from headstart.errors import DataError
from headstart.tasks.images.data.image_set import load_images

IMAGES = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4)
LABELS = np.array([9, 0, 4], dtype=np.uint8)


def idx(values: np.ndarray) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def tiny_files() -> dict[str, bytes]:
    return {
        "train-images-idx3-ubyte": idx(IMAGES),
        "train-labels-idx1-ubyte": idx(LABELS),
        "t10k-images-idx3-ubyte": idx(IMAGES[:1]),
        "t10k-labels-idx1-ubyte": idx(LABELS[:1]),
    }


def write_package(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, content in tiny_files().items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the tiny files for the right ones."""
    for name, content in tiny_files().items():
        monkeypatch.setitem(fashion_mnist.SHA256, name, hashlib.sha256(content).hexdigest())


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a tiny package, and take the other sources away."""
    monkeypatch.setattr(fashion_mnist, "INSIDE", tmp_path / "package")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    write_package(tmp_path / "package")
    return tmp_path / "package"


@pytest.mark.usefixtures("known", "package")
def test_the_data_set_is_written_as_load_images_reads_it(tmp_path: Path) -> None:
    origin = fashion_mnist.get(tmp_path / "out")
    assert origin == "Debian package dataset-fashion-mnist, installed"
    train, test = (load_images(str(tmp_path / "out"), split) for split in ("train", "test"))
    assert train.images[:, 0].tolist() == IMAGES.tolist()
    assert train.labels.tolist() == LABELS.tolist()
    assert train.classes == fashion_mnist.CLASSES
    assert train.origin.endswith(f"({origin})")
    assert test.images[:, 0].tolist() == IMAGES[:1].tolist()


@pytest.mark.usefixtures("known")
def test_a_second_call_does_nothing(tmp_path: Path, package: Path) -> None:
    first = fashion_mnist.get(tmp_path / "out")
    shutil.rmtree(package)
    assert fashion_mnist.get(tmp_path / "out") == first


@pytest.mark.usefixtures("known", "package")
def test_what_an_interrupted_call_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train.parquet").write_bytes(b"half")
    fashion_mnist.get(tmp_path / "out")
    assert len(load_images(str(tmp_path / "out")).labels) == 3


@pytest.mark.usefixtures("package")
def test_other_contents_are_refused_with_both_sums(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        fashion_mnist.get(tmp_path / "out")
    found = hashlib.sha256(tiny_files()["train-images-idx3-ubyte"]).hexdigest()
    wanted = fashion_mnist.SHA256["train-images-idx3-ubyte"]
    assert "train-images-idx3-ubyte from Debian package" in str(caught.value)
    assert f"has the SHA-256 {found} where {wanted} is right; not used" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("package")
def test_every_source_that_failed_is_named(tmp_path: Path, package: Path) -> None:
    (package / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError) as caught:
        fashion_mnist.get(tmp_path / "out")
    message = str(caught.value)
    assert f"the installed Debian package dataset-fashion-mnist: there is no {package}" in message
    assert "fetched with apt: apt-get is not installed" in message
    assert "the Hugging Face Hub, zalando-datasets/fashion_mnist: " in message
    assert f"copy {tmp_path / 'out'} from a machine that has it" in message


@pytest.mark.usefixtures("package")
def test_a_broken_archive_is_named(package: Path) -> None:
    path = package / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=rf"{path} cannot be read"):
        fashion_mnist.from_installed_package()


@pytest.mark.usefixtures("known")
def test_the_package_is_fetched_and_unpacked_without_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def pretend(command: list[str], cwd: Path, **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        if "update" in command:  # one of several package sources is broken
            return subprocess.CompletedProcess(command, 100, "", "E: no Release file\n")
        if "download" in command:
            (cwd / "dataset-fashion-mnist_1.2-3_all.deb").write_text("")
        else:
            write_package(Path(command[-1]) / fashion_mnist.INSIDE)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(subprocess, "run", pretend)
    files, origin = fashion_mnist.from_apt()
    assert files == tiny_files()
    assert origin == "Debian package dataset-fashion-mnist 1.2-3, fetched with apt"
    assert [command[0] for command in calls] == ["apt-get", "apt-get", "dpkg-deb"]
    folder = Path(calls[0][2].removeprefix("Dir::State::lists=")).parent
    assert not folder.exists()


def test_the_hub_gives_the_same_files(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load(name: str, split: str) -> datasets.Dataset:
        size = {"train": 3, "test": 1}[split]
        rows = {"image": list(IMAGES[:size]), "label": LABELS[:size].tolist()}
        return datasets.Dataset.from_dict(rows, features=fashion_mnist.features())

    monkeypatch.setattr(datasets, "load_dataset", load)
    files, origin = fashion_mnist.from_hub()
    assert files == tiny_files()
    assert origin == "Hugging Face Hub, zalando-datasets/fashion_mnist"
