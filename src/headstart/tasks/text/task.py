"""Masked-language pretraining: packed text, masked anew each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.distill import cross_entropy
from headstart.tasks.order import held_out_batches
from headstart.tasks.task import Batch, Evaluation
from headstart.tasks.text.config import MlmData, MlmModel
from headstart.tasks.text.corpus import Corpus
from headstart.tasks.text.masking import IGNORED, Masked, Masking
from headstart.tasks.text.model_config import build_config
from headstart.tasks.text.models import build_model, load_checkpoint
from headstart.tasks.text.packed_text import PackedText
from headstart.tasks.text.packing import Sequences
from headstart.tasks.text.tokenizer import read_tokenizer
from headstart.tasks.text.vocabulary import read_vocabulary

_HELD_OUT_SEED = 20221101  # the held-out masking is the same for every run, whatever its seed


class MaskedLM(PackedText):
    """Sequences of tokens, some of them hidden, which the model is to name; a batch is a pure function of (seed, step).

    A batch's inputs are `input_ids`, `[sequences, length]`, and `masked_rows`, as `attach_masked_head` has them; its
    labels are the hidden tokens, `[masked rows]`. Sequences are full, so there is no attention mask.

    Args:
        model: The student.
        data: How sequences are masked and judged on.
        corpus: The text, from `load_corpus(data)`.
        seed: Seed of the order and the masking.
        label_smoothing: Of the task loss.
        device: Where batches are made.

    Raises:
        DataError: The tokenizer is not fit for masked-language modelling.
        RecipeError: The model's type, size or settings are unknown or impossible.
    """

    name = "mlm"
    model: MlmModel
    data: MlmData
    metric = "masked-LM loss"

    def __init__(
        self,
        model: MlmModel,
        data: MlmData,
        corpus: Corpus,
        *,
        seed: int = 0,
        label_smoothing: float = 0.0,
        device: torch.device | str = "cpu",
    ) -> None:
        vocabulary = read_vocabulary(corpus.tokenizer, f"data.tokenizer={data.tokenizer!r}")
        config = build_config(model, vocabulary)
        super().__init__(
            model, data, corpus, vocabulary, config, seed=seed, label_smoothing=label_smoothing, device=device
        )
        self._masking = Masking(vocabulary, data.mask, device=device)

    def build_model(self) -> nn.Module:
        """A new student: with fresh weights, or those of its checkpoint, whose tokenizer must be the corpus's."""
        checkpoint = self.model.checkpoint
        if checkpoint is None or not self.model.pretrained:
            return build_model(self.config, columns=self.vocabulary.size, length=self.data.length)
        own = read_vocabulary(read_tokenizer(checkpoint), checkpoint)
        self._check_tokenizer(checkpoint, own)
        return load_checkpoint(checkpoint, columns=self.vocabulary.size, length=self.data.length, config=self.config)

    def batch(self, step: int, size: int, *, part: int = 0, parts: int = 1) -> Batch:
        """A step's sequences, shuffled by epoch, masked anew; a last batch that would not be full is left out.

        Args:
            step: The optimiser step, counted from 0.
            size: Sequences of the whole step.
            part: Which part of them (a micro-batch of a process).
            parts: How many equal parts there are.

        Returns:
            Rows in the order of the sequences, `round(mask * length)` each; labels of -100 where a sequence has fewer
            tokens that are not special. Such rows count as ones of loss 0.
        """
        samples, epoch = self._order.part(step, size, part, parts)
        masked = self._masked(self.corpus.train, samples, self.seed, epoch)
        return Batch(_inputs(masked), masked.labels, samples, epoch, items=len(masked.labels))

    def forward(self, model: nn.Module, inputs: Any) -> Tensor:
        """The model's logits, `[masked rows, vocabulary]`."""
        logits: Tensor = model(**inputs).logits
        return logits

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy, mean over the masked rows, computed in at least float32."""
        # In one pass where logits are many, as the Distiller does it: with a baseline that is slower, ratios would lie.
        return cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing, num_items=batch.items)

    @torch.no_grad()
    def evaluate(
        self, forward: Callable[[Any], Tensor], *, part: int = 0, parts: int = 1, size: int = 64
    ) -> Evaluation:
        """Cross-entropy and accuracy on held-out text, masked in the same way in every run.

        The sequences are `data.evaluate_sequences` at most, spread evenly over the held-out text; all of them, or one
        of several parts.
        """
        loss, right, rows = torch.zeros(3, dtype=torch.float64, device=self.device)
        chosen = self._judged()
        for samples, counted in held_out_batches(len(chosen), size, part=part, parts=parts):
            masked = self._masked(self.corpus.held_out, chosen[samples], _HELD_OUT_SEED, 0)
            logits = forward(_inputs(masked)).float()
            labels = masked.labels.view(len(samples), -1).clone()
            labels[counted:] = IGNORED
            labels = labels.flatten()
            loss += F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
            right += (logits.argmax(-1) == labels).sum()
            rows += (labels != IGNORED).sum()
        found = rows.clamp(min=1)
        return Evaluation(float(loss / found), {"masked_accuracy": float(right / found)}, int(rows))

    def held_out(self, size: int) -> Iterator[Batch]:
        """Held-out sequences, masked as they are to be judged."""
        for samples in torch.split(self._judged(), size):
            masked = self._masked(self.corpus.held_out, samples, _HELD_OUT_SEED, 0)
            yield Batch(_inputs(masked), masked.labels, samples, 0, items=len(masked.labels))

    def _masked(self, sequences: Sequences, samples: Tensor, seed: int, epoch: int) -> Masked:
        tokens = self._tokens(sequences, samples)
        return self._masking(tokens, samples.to(self.device, non_blocking=True), seed=seed, epoch=epoch)


def _inputs(masked: Masked) -> dict[str, Tensor]:
    return {"input_ids": masked.input_ids, "masked_rows": masked.masked_rows}
