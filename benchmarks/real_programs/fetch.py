"""The programs at pinned commits: downloaded where that is asked for, and told apart from others."""

from __future__ import annotations

import hashlib
import urllib.request
from dataclasses import dataclass
from pathlib import Path

_RAW = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class Source:
    """A repository at a commit.

    Attributes:
        repository: Its owner and name on GitHub.
        commit: The commit.
        files: Each with the beginning of its SHA-256.
    """

    repository: str
    commit: str
    files: dict[str, str]

    @property
    def folder(self) -> str:
        """Where its files are in the folder of programs."""
        return self.repository.partition("/")[2]


_EXAMPLES = {
    "image-classification/run_image_classification.py": "fb01e5a66be005ef",
    "image-pretraining/run_mae.py": "c9535f369208f40c",
    "language-modeling/run_clm.py": "9c3803919ae9936a",
    "language-modeling/run_mlm.py": "6a32c7f9daf2b9be",
    "question-answering/run_qa.py": "da94b5ae21de74f4",
    "question-answering/trainer_qa.py": "929a62fd4f6b563c",
    "question-answering/utils_qa.py": "0febe73c871da984",
    "semantic-segmentation/run_semantic_segmentation.py": "5e5b44e1508581e6",
    "text-classification/run_classification.py": "624e55f2035a5fdf",
    "text-classification/run_glue.py": "22e8b251976822cf",
    "token-classification/run_ner.py": "5bb019a46a0f2b29",
    "translation/run_translation.py": "7a0e9084c5cbda87",
}
SOURCES = (
    Source(
        "huggingface/transformers",
        "d6a6c82680cba9c51decdacac6dd6315ea4a766a",
        {f"examples/pytorch/{path}": digest for path, digest in _EXAMPLES.items()},
    ),
    Source(
        "karpathy/nanoGPT",
        "3adf61e154c3fe3fca428ad6bc3818b27a3b8291",
        {"train.py": "413bd97b40bb400a", "model.py": "7c01703240dbec5d", "configurator.py": "5cc23aca26b4ab3c"},
    ),
    Source(
        "huggingface/pytorch-image-models",
        "aa4b5850c1543fa488abf260f18390eda46cf85d",
        {"train.py": "f0bb70b9e1c8c576"},
    ),
)


def fetch(folder: Path) -> None:
    """Download what is not there yet.

    Raises:
        ValueError: A file is not the one of the commit.
    """
    for source in SOURCES:
        print(f"Programs of {source.repository}, commit {source.commit}, from {_RAW} into {folder / source.folder}")
        for name, digest in source.files.items():
            path = folder / source.folder / name
            if path.exists():
                continue
            with urllib.request.urlopen(f"{_RAW}/{source.repository}/{source.commit}/{name}", timeout=60) as answer:
                content: bytes = answer.read()
            if _digest(content) != digest:
                raise ValueError(f"{source.repository} has another {name} at {source.commit} than the recorded one")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def revisions(folder: Path) -> dict[str, str]:
    """By repository the commit that a folder's programs are of, as far as that is known."""
    told = {}
    for source in SOURCES:
        paths = {folder / source.folder / name: digest for name, digest in source.files.items()}
        same = all(path.exists() and _digest(path.read_bytes()) == digest for path, digest in paths.items())
        told[source.repository] = source.commit if same else f"not {source.commit}"
    return told


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
