"""What a recipe says about pretraining on text: of encoders (`Mlm...`) and of causal language models (`Clm...`)."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from headstart.config import SEEDS, Config


class LanguageModel(Config):
    """A student of transformers, by its type and size or as a checkpoint's."""

    name: str
    """Which model it is."""
    size: str | None = None
    """A named size."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Settings of transformers' config class by its own names, over those of `size`; for example
    `{num_hidden_layers: 4, hidden_size: 128}`."""
    pretrained: bool = False
    """Start from the checkpoint's weights too (safetensors only), not from fresh ones; for `hub:`."""

    @property
    def checkpoint(self) -> str | None:
        """The Hub's name, or the folder, after `hub:`."""
        return self.name.removeprefix("hub:") if self.name.startswith("hub:") else None

    @model_validator(mode="after")
    def _fitting_a_checkpoint(self) -> Self:
        if self.checkpoint is None and self.pretrained:
            raise ValueError(f"pretrained needs a checkpoint, and {self.name!r} names none; give name: hub:OWNER/NAME")
        if self.checkpoint is not None and self.size is not None:
            raise ValueError(f"{self.name!r} has a size of its own; leave size={self.size!r} out, or change config")
        return self


class MlmModel(LanguageModel):
    """The student: any encoder of transformers that has a masked-LM head."""

    name: str = "bert"
    """`bert`, `roberta`, `distilbert`, `modernbert`, or another model type of transformers; `hub:OWNER/NAME` (or
    `hub:FOLDER`) for the architecture of a checkpoint."""
    size: Literal["tiny", "mini", "small", "medium", "base"] | None = None
    """Layers x width: tiny 2 x 128, mini 4 x 256, small 4 x 512, medium 8 x 512, with heads of 64 (Turc et al., arXiv
    1908.08962); base: what transformers' config class has by itself. null: base, or the size of what `hub:` names."""


class ClmModel(LanguageModel):
    """The student: any causal language model of transformers."""

    name: str = "llama"
    """`llama`, `gpt2`, `qwen3`, or another model type of transformers; `hub:OWNER/NAME` (or `hub:FOLDER`) for the
    architecture of a checkpoint."""
    size: Literal["1m", "5m", "25m", "60m", "135m", "360m", "1b"] | None = None
    """Layers x width: 1m 4 x 128, 5m 6 x 256, 25m 8 x 512, 60m 14 x 640 (named by their parameters without embeddings),
    135m 30 x 576 and 360m 32 x 960 (SmolLM2, arXiv 2502.02737), 1b 16 x 2048 (Llama 3.2). Heads are of 64; embeddings
    and head share a matrix. null: what transformers' config class has by itself, or the size of what `hub:` names."""


class TextSource(Config):
    """Where text comes from."""

    name: str
    """A folder or file of text or parquet, or a data set's name: looked up in `$HEADSTART_DATA`, the cache, then the
    Hugging Face Hub."""
    subset: str | None = None
    """The Hub data set's configuration, for example `en` of `allenai/c4`."""
    column: str = "text"
    """The column that holds the text."""
    streaming: bool = False
    """Read the Hub's files as they come, without keeping them; for corpora that do not fit on the disk."""
    documents: int | None = Field(None, ge=1)
    """Use no more than this many training documents, the first ones; null: all."""


class _MaskedTokens(Config):
    tokenizer: str = "wordpiece"
    """`wordpiece`: trained on the corpus; else a folder, or a Hub id, of a tokenizer with a mask token."""
    vocab_size: int = Field(8192, ge=64)
    """Tokens of a trained tokenizer, special ones included."""
    lowercase: bool = True
    """Whether a trained tokenizer folds case and strips accents, as `bert-base-uncased` does."""
    length: int = Field(128, ge=8)
    """Tokens of a sequence. Documents are packed one after the other, so that every sequence is full."""
    mask: float = Field(0.15, gt=0, lt=1)
    """Fraction of a sequence's tokens to predict: the same number in each sequence, drawn anew each epoch."""


class _NextTokens(Config):
    tokenizer: str = "bpe"
    """`bpe`: byte-level BPE trained on the corpus; else a folder, or a Hub id, of a tokenizer with a token that ends
    texts."""
    vocab_size: int = Field(8192, ge=320)
    """Tokens of a trained tokenizer: 256 for the bytes, one that ends documents, and pieces."""
    length: int = Field(512, ge=8)
    """Tokens of a sequence. Documents are packed one after the other, so that every sequence is full."""
    documents_apart: bool = True
    """Keep the documents of a sequence apart in attention, by positions that begin anew with each; false: a token sees
    all tokens before it."""


class TextJudging(Config):
    """The order that text is seen in, and what is judged on."""

    seed: int | None = Field(None, ge=0, lt=SEEDS)
    """Of the order and the masking, so that runs of several seeds can share cached targets; null: `train.seed`."""
    evaluate: Literal["test", "validation", "tuning"] = "test"
    """Judge on that split; where there is no validation split, on `holdout` documents taken out of the training one.
    `tuning`: on the documents of `tuning`, as `race.tune` does."""
    holdout: int = Field(0, ge=0)
    """How many training documents to set aside: the same ones for every seed. They are trained on by nobody. Of a
    stream a multiple of 256, the first ones of its first file."""
    tuning: int = Field(0, ge=0)
    """How many further training documents to set aside, for `race.tune` to choose settings by: others than those of
    `holdout`. They are trained on by nobody, and no race is judged by them."""
    evaluate_sequences: int | None = Field(2000, ge=1)
    """Judge on no more than this many sequences, spread evenly over the held-out text; null: all."""


class MlmData(TextJudging, _MaskedTokens, TextSource):
    """Which text to train and judge on, and how it is cut and masked."""


class ClmData(TextJudging, _NextTokens, TextSource):
    """Which text to train and judge on, and how it is cut."""

    @property
    def views(self) -> int | None:
        """1: a sequence is the same in every epoch. None of a stream, whose sequences are others with each seed."""
        return None if self.streaming else 1


TextData = MlmData | ClmData
