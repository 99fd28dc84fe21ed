"""What the pretrainings on packed text share, whatever it is that a model predicts of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from headstart.errors import RecipeError
from headstart.files import write_atomically
from headstart.tasks.text.config import LanguageModel, TextData
from headstart.tasks.text.corpus import Corpus
from headstart.tasks.text.packing import Sequences
from headstart.tasks.text.vocabulary import Vocabulary, first_difference

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


class PackedText:
    """A student, its vocabulary, and sequences of tokens in an order that follows from a seed.

    Args:
        model: The student.
        data: How sequences are cut and judged on.
        corpus: The text, from `load_corpus(data)`.
        vocabulary: Of the corpus's tokenizer.
        config: The student's, for that vocabulary.
        seed: Seed of the order.
        label_smoothing: Of the task loss.
        device: Where batches are made.
    """

    name: ClassVar[str]  # in recipes and descriptions
    model: LanguageModel
    data: TextData
    higher_is_better = False
    own_loss = False

    def __init__(
        self,
        model: LanguageModel,
        data: TextData,
        corpus: Corpus,
        vocabulary: Vocabulary,
        config: PreTrainedConfig,
        *,
        seed: int,
        label_smoothing: float,
        device: torch.device | str,
    ) -> None:
        self.model, self.data, self.corpus, self.vocabulary, self.config = model, data, corpus, vocabulary, config
        self.seed, self.label_smoothing, self.device = seed, label_smoothing, torch.device(device)
        self.samples, self.num_classes = len(corpus.train), vocabulary.size
        self._order = corpus.order(seed)

    def describe(self) -> dict[str, Any]:
        """Configuration and vocabulary: what turns weights into a teacher."""
        return {
            "task": self.name,
            "model": self.model.model_dump(),
            "config": json.loads(self.config.to_json_string(use_diff=False)),
            "vocabulary": self.vocabulary.describe(),
            "length": self.data.length,
        }

    def save_beside(self, folder: Path) -> None:
        """Write what the text was; and configuration and tokenizer, as transformers' `from_pretrained` reads them."""
        write_atomically(folder / "text.json", json.dumps(self.corpus.describe(), indent=1).encode())
        self.config.save_pretrained(folder)
        self.corpus.save_tokenizer(folder)

    def _check_tokenizer(self, checkpoint: str, own: Vocabulary) -> None:
        """Refuse weights that were trained with another vocabulary than the corpus's."""
        if reason := first_difference(self.vocabulary, own):
            raise RecipeError(
                f"model: {checkpoint} was trained with another tokenizer than the text is cut with ({reason}); set "
                f"data.tokenizer to {checkpoint}"
            )

    def _judged(self) -> Tensor:
        """The held-out sequences to judge on: `data.evaluate_sequences` at most, spread evenly over the text."""
        available = len(self.corpus.held_out)
        count = min(available, self.data.evaluate_sequences or available)
        return torch.arange(count) * available // count

    def _tokens(self, sequences: Sequences, samples: Tensor) -> Tensor:
        """The tokens of some sequences, `[samples, length]`, where batches are made."""
        return sequences.rows(samples).to(self.device, non_blocking=True)
