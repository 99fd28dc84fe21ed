"""Pretraining of causal language models: packed text, of which every next token is predicted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.distill import cross_entropy
from headstart.distill.fused import linear_cross_entropy
from headstart.distill.projection import Logits, Projection
from headstart.tasks.order import held_out_batches
from headstart.tasks.task import Batch, Evaluation
from headstart.tasks.text.causal.head import ROWS
from headstart.tasks.text.causal.model_config import build_causal_config
from headstart.tasks.text.causal.models import build_causal_model, load_causal_checkpoint
from headstart.tasks.text.causal.packing import hold_several_documents, positions_in_documents
from headstart.tasks.text.causal.tokenizer import boundary, read_causal_tokenizer
from headstart.tasks.text.config import ClmData, ClmModel
from headstart.tasks.text.corpus import Corpus
from headstart.tasks.text.packed_text import PackedText
from headstart.tasks.text.vocabulary import read_vocabulary

_AT_ONCE = 2**24  # held-out logits that exist at a time


class CausalLM(PackedText):
    """Sequences of tokens, each to be predicted from those before it; a batch is a pure function of (seed, step).

    A batch's inputs are `input_ids`, `[sequences, length]`, with documents apart their `position_ids`, and
    `next_token_rows`, as `attach_causal_head` has them: all places but the last of each sequence. Its labels are the
    tokens after those, `[sequences * (length - 1)]`. Sequences are full, so there is no attention mask.

    With the token that ends a document the next one begins. So it is predicted from the document that it ends, as the
    last thing there is to know of it, and the first token of the next one from it alone: every place has a label, and
    none gives away anything of another document.

    Args:
        model: The student.
        data: How sequences are cut and judged on.
        corpus: The text, from `load_corpus(data)`.
        seed: Seed of the order.
        label_smoothing: Of the task loss.
        device: Where batches are made.

    Raises:
        DataError: The tokenizer has no token between documents.
        RecipeError: The model's type, size or settings are unknown or impossible.
    """

    name = "clm"
    model: ClmModel
    data: ClmData
    metric = "next-token loss"

    def __init__(
        self,
        model: ClmModel,
        data: ClmData,
        corpus: Corpus,
        *,
        seed: int = 0,
        label_smoothing: float = 0.0,
        device: torch.device | str = "cpu",
    ) -> None:
        origin = f"data.tokenizer={data.tokenizer!r}"
        vocabulary = read_vocabulary(corpus.tokenizer, origin, needed=())
        self._boundary = boundary(corpus.tokenizer, origin)
        config = build_causal_config(model, vocabulary, self._boundary)
        super().__init__(
            model, data, corpus, vocabulary, config, seed=seed, label_smoothing=label_smoothing, device=device
        )

    def build_model(self) -> nn.Module:
        """A new student: with fresh weights, or those of its checkpoint, whose tokenizer must be the corpus's."""
        fit: dict[str, Any] = {
            "columns": self.vocabulary.size,
            "length": self.data.length,
            "apart": self.data.documents_apart,
        }
        checkpoint = self.model.checkpoint
        if checkpoint is None or not self.model.pretrained:
            return build_causal_model(self.config, **fit)
        own = read_vocabulary(read_causal_tokenizer(checkpoint), checkpoint, needed=())
        self._check_tokenizer(checkpoint, own)
        return load_causal_checkpoint(checkpoint, config=self.config, **fit)

    def batch(self, step: int, size: int, *, part: int = 0, parts: int = 1) -> Batch:
        """A step's sequences, shuffled by epoch; a last batch that would not be full is left out.

        Args:
            step: The optimiser step, counted from 0.
            size: Sequences of the whole step.
            part: Which part of them (a micro-batch of a process).
            parts: How many equal parts there are.
        """
        samples, epoch = self._order.part(step, size, part, parts)
        return self._sequences(samples, epoch)

    @property
    def views(self) -> int | None:
        """1, as sequences are the same in every epoch; None of a stream."""
        return self.data.views

    def view_of(self, samples: Tensor, epoch: int) -> Tensor:
        """The only one: sequences are the same in every epoch."""
        return torch.zeros_like(samples)

    def view(self, samples: Tensor, number: int) -> Batch:
        """The sequences of these numbers."""
        return self._sequences(samples, number)

    def hold_several_documents(self, tokens: Tensor) -> Tensor:
        """Which sequences `[batch, length]` hold targets of more than one document, `[batch]` of bool."""
        return hold_several_documents(tokens, self._boundary[-1])

    def forward(self, model: nn.Module, inputs: Any) -> Logits:
        """The model's logits, `[sequences * (length - 1), vocabulary]`, or a `Projection` that they can be made of."""
        logits: Logits = model(**inputs).logits
        return logits

    def loss(self, logits: Logits, batch: Batch) -> Tensor:
        """Cross-entropy, mean over all tokens but the first of each sequence, computed in at least float32."""
        settings: dict[str, Any] = {"label_smoothing": self.label_smoothing, "num_items": batch.items}
        if isinstance(logits, Projection):
            return linear_cross_entropy(logits, batch.labels, **settings)
        return cross_entropy(logits, batch.labels, **settings)

    @torch.no_grad()
    def evaluate(
        self, forward: Callable[[Any], Logits], *, part: int = 0, parts: int = 1, size: int = 16
    ) -> Evaluation:
        """Cross-entropy in nats a token, bits a byte of text, and accuracy on held-out text.

        The sequences are `data.evaluate_sequences` at most, spread evenly over the held-out text; all of them, or one
        of several parts. Bits per byte are the cross-entropy over log 2, times tokens per byte of all held-out text
        (The Pile, arXiv 2101.00027, section 3.1), those between documents counted.
        """
        loss, right, rows = torch.zeros(3, dtype=torch.float64, device=self.device)
        chosen = self._judged()
        for samples, counted in held_out_batches(len(chosen), size, part=part, parts=parts):
            inputs, labels = self._shifted(self._tokens(self.corpus.held_out, chosen[samples]))
            labels = labels[: counted * (self.data.length - 1)]
            found, hits = _sums(forward(inputs), labels)
            loss, right, rows = loss + found, right + hits, rows + len(labels)
        mean, share = float(loss / rows.clamp(min=1)), float(right / rows.clamp(min=1))
        others = {"next_token_accuracy": share}
        if (tokens_per_byte := self._tokens_per_byte()) is not None:
            others["bits_per_byte"] = mean / math.log(2) * tokens_per_byte
        return Evaluation(mean, others, int(rows))

    def held_out(self, size: int) -> Iterator[Batch]:
        """The held-out sequences to judge on."""
        for samples in torch.split(self._judged(), size):
            yield Batch(*self._shifted(self._tokens(self.corpus.held_out, samples)), samples, 0)

    def _sequences(self, samples: Tensor, epoch: int) -> Batch:
        inputs, labels = self._shifted(self._tokens(self.corpus.train, samples))
        return Batch(inputs, labels, samples, epoch)

    def _shifted(self, tokens: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """What the model is given, and the token after each place but a sequence's last: the one place that shifts."""
        rows = torch.arange(tokens.numel(), device=tokens.device).view_as(tokens)[:, :-1].flatten()
        inputs = {"input_ids": tokens, ROWS: rows}
        if self.data.documents_apart:
            inputs["position_ids"] = positions_in_documents(tokens, self._boundary[-1])
        return inputs, tokens[:, 1:].flatten()

    def _tokens_per_byte(self) -> float | None:
        text = self.corpus.held_out.describe()
        if not text.get("bytes"):
            return None
        return (text["tokens"] + text["documents"] * len(self._boundary)) / text["bytes"]


def _sums(logits: Logits, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the cross-entropies of the first rows, and how many labels have the largest logit."""
    loss, right = torch.zeros(2, dtype=torch.float64, device=labels.device)
    classes = len(logits.weight) if isinstance(logits, Projection) else logits.shape[-1]
    size = max(1, _AT_ONCE // classes)
    for begin in range(0, len(labels), size):
        few = labels[begin : begin + size]
        index = slice(begin, begin + len(few))
        part = (logits.logits(index) if isinstance(logits, Projection) else logits[index]).float()
        loss += F.cross_entropy(part, few, reduction="sum")
        right += (part.argmax(-1) == few).sum()
    return loss, right
