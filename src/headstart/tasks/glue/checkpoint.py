"""The checkpoint to score: its tokenizer, its weights under a new head, and what tells it from another."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from headstart.errors import HeadstartError
from headstart.tasks.glue.protocol import MAX_LENGTH
from headstart.tasks.hub import from_hub, one_line, quiet


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A pretrained encoder, its weights not loaded yet.

    Attributes:
        source: The folder, or the Hub id.
        fingerprint: Says which weights these are, wherever they lie.
        tokenizer: As transformers has it.
        tokenizer_key: Says what the tokenizer does, whatever its name.
        max_length: Tokens that an input is cut to: 256, or as many positions as the model has where they are fewer.
        types: Whether the model tells the two texts of a pair apart by token types.
    """

    source: str
    fingerprint: str
    tokenizer: Any
    tokenizer_key: str
    max_length: int
    types: bool

    @property
    def padding(self) -> int:
        """The padding token."""
        return int(self.tokenizer.pad_token_id)


@dataclass(frozen=True, eq=False)
class Classifier:
    """A model to fine-tune, and the names of the weights that make up its new head."""

    model: nn.Module
    head: frozenset[str]


def open_checkpoint(source: str | Path) -> Checkpoint:
    """Look at a checkpoint without loading its weights.

    Args:
        source: A run folder of an `mlm` recipe, any folder as `save_pretrained` writes it, or a Hub id.

    Raises:
        HeadstartError: It is no such thing, has no weights in safetensors, or no tokenizer that fits it.
    """
    from transformers import AutoConfig, AutoTokenizer

    path = Path(source).expanduser()
    if path.is_dir():
        _check_folder(path)
    source = str(path) if path.is_dir() else str(source)
    with quiet(), _told(source, "cannot be read as a checkpoint"):
        config = AutoConfig.from_pretrained(source)
    with quiet(), _told(source, "its tokenizer cannot be read"):
        tokenizer = AutoTokenizer.from_pretrained(source)
    _check_tokenizer(source, tokenizer, config)
    with _told(source, "its weights cannot be read"):
        fingerprint = _digest(path) if path.is_dir() else f"{source}@{getattr(config, '_commit_hash', None)}"
    return Checkpoint(
        source=source,
        fingerprint=fingerprint,
        tokenizer=tokenizer,
        tokenizer_key=_tokenizer_key(tokenizer),
        max_length=min(MAX_LENGTH, _positions(source, config)),
        types=getattr(config, "type_vocab_size", 0) > 1,
    )


def load_classifier(source: str | Path, classes: int, *, seed: int, device: torch.device) -> Classifier:
    """The checkpoint's encoder in float32, under a new head whose weights follow from the seed.

    Sets torch's default generator.

    Args:
        source: The folder, or the Hub id.
        classes: Number of outputs.
        seed: Of the head.
        device: Where the model goes.

    Raises:
        HeadstartError: The weights are missing, damaged, or not those of the model that `config.json` describes.
    """
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(seed)
    with quiet(), _told(str(source), "cannot be loaded for classifying texts"):
        model, info = AutoModelForSequenceClassification.from_pretrained(
            source,
            num_labels=classes,
            use_safetensors=True,
            output_loading_info=True,
            # On short texts torch's fused attention is the slower one on a CPU: its backward is.
            attn_implementation="eager" if device.type == "cpu" else None,
        )
    inside = f"{model.base_model_prefix}."
    # Only a masked-LM head comes without a pooler; that one is new, and trained, like the head.
    lacking = sorted(name for name in info["missing_keys"] if name.startswith(inside) and ".pooler." not in name)
    if lacking:
        raise HeadstartError(
            f"{source}: {len(lacking)} weights of a {type(model.base_model).__name__} are not there, {lacking[0]} for "
            "one; give weights and config.json of one model, as its save_pretrained(folder) writes them"
        )
    head = frozenset(name for name in info["missing_keys"] if not name.startswith(inside))
    return Classifier(model.float().to(device), head)


def save_encoder(classifier: Classifier, folder: Path) -> None:
    """Save a fine-tuned model without its head, for others to start from; as a whole or not at all."""
    unfinished = folder.with_name(f".{folder.name}.tmp")
    for old in (unfinished, folder):
        shutil.rmtree(old, ignore_errors=True)
    weights = {name: value for name, value in classifier.model.state_dict().items() if name not in classifier.head}
    with quiet():
        classifier.model.save_pretrained(unfinished, state_dict=weights)  # type: ignore[operator]
    unfinished.replace(folder)


def _check_folder(path: Path) -> None:
    if not (path / "config.json").is_file():
        raise HeadstartError(f"{path}: no config.json in this folder; give a run of an mlm recipe, or a Hub id")
    if not any(path.glob("*.safetensors")):
        raise HeadstartError(
            f"{path}: no weights in safetensors in this folder; the run has not finished, or they are in another "
            "format: load them in a program you trust and save them with save_pretrained(folder)"
        )


def _check_tokenizer(source: str, tokenizer: Any, config: Any) -> None:
    # Where there are no tokenizer files, transformers makes a tokenizer of special tokens alone.
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise HeadstartError(
            f"{source}: has no tokenizer; save the one it was pretrained with beside it (tokenizer.json and "
            "tokenizer_config.json)"
        )
    if not tokenizer.is_fast:
        raise HeadstartError(
            f"{source}: its tokenizer, a {type(tokenizer).__name__}, has no form of the `tokenizers` library; "
            "save it as tokenizer.json"
        )
    if tokenizer.pad_token_id is None:
        raise HeadstartError(f"{source}: its tokenizer has no padding token, which batches of texts need")
    if len(tokenizer) > config.vocab_size:
        raise HeadstartError(
            f"{source}: its tokenizer has {len(tokenizer)} tokens and the model {config.vocab_size}; "
            "they do not belong together"
        )


def _tokenizer_key(tokenizer: Any) -> str:
    from tokenizers import Tokenizer

    plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    # Both are set by each call.
    plain.no_truncation()
    plain.no_padding()
    return hashlib.sha256(plain.to_str().encode()).hexdigest()


def _positions(source: str, config: Any) -> int:
    """How many tokens the model can read."""
    from transformers import AutoModel

    positions = getattr(config, "max_position_embeddings", None) or MAX_LENGTH
    with torch.device("meta"), _told(source, "its config.json describes no model that can be built"):
        model = AutoModel.from_config(config)
    # RoBERTa and its kin count positions from behind the padding token's number.
    tables = [module for name, module in model.named_modules() if name.endswith("position_embeddings")]
    offsets = [table.padding_idx + 1 for table in tables if getattr(table, "padding_idx", None) is not None]
    return int(positions) - max(offsets, default=0)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        # Not the file's bytes: what its header says comes in another order each time it is written.
        with safe_open(path, framework="pt") as file:
            for name in sorted(file.keys()):
                tensor = file.get_tensor(name)
                digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
                digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:24]


@contextmanager
def _told(source: str, what: str) -> Iterator[None]:
    """Turn whatever transformers and the Hub's client raise into one sentence."""
    try:
        with from_hub(source):
            yield
    except Exception as error:  # of many libraries
        reason = one_line(error)
        raise HeadstartError(f"{source}: {what} ({reason}); give a run of an mlm recipe, or a Hub id") from None
