"""Classifiers of texts that look for the last token by the number of the padding: theirs has to be the batch's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from headstart.distill.inputs import wrapped_in
from headstart.errors import TeacherError


def check_padding(module: Any, inputs: Any, name: str) -> None:
    """Refuse a batch that is padded with another token than a teacher takes for padding.

    Decoders with a head for classes (GPT-2, Llama, ...) classify a text by its last token: the last one that is not
    their configuration's `pad_token_id`, whatever the mask says. In a batch padded with another token that is padding.

    Args:
        module: The teacher's.
        inputs: What it is given.
        name: Its name, for the message.

    Raises:
        TeacherError: Something else stands where the mask says padding.
    """
    module = wrapped_in(module)
    looks = type(module).__name__.endswith("ForSequenceClassification") and hasattr(module, "score")
    if not looks or not isinstance(inputs, Mapping):
        return
    tokens, mask = inputs.get("input_ids"), inputs.get("attention_mask")
    config = getattr(module, "config", None)
    padding = getattr(config, "pad_token_id", None)
    if not isinstance(tokens, Tensor) or not isinstance(mask, Tensor) or padding is None or tokens.shape != mask.shape:
        return
    strange = tokens[(mask == 0) & (tokens != padding)]
    if strange.numel():
        raise TeacherError(
            f"teacher {name!r} takes token {padding} for padding, and the batch is padded with {int(strange[0])}, so "
            f"that it would judge a text by its padding; set the teacher's config.pad_token_id = {int(strange[0])}"
        )
