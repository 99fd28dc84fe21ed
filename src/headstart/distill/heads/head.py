"""What a row of outputs means, and which losses mean something for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

from headstart.distill.losses.outputs import (
    binary_jsd,
    binary_kl,
    binary_reverse_kl,
    huber_error,
    squared_error,
)
from headstart.distill.losses.table import LOSSES, Loss, LossFunction
from headstart.errors import HeadstartError

Head: TypeAlias = Literal["classes", "labels", "values"]

MEANING: Mapping[Head, str] = {
    "classes": "one class of many, a softmax over the row",
    "labels": "several yes-or-no labels, a sigmoid each",
    "values": "numbers, as in regression",
}

_OF_NUMBERS: Mapping[str, Loss] = {
    "mse": Loss(squared_error, average="logit", each_output=True),
    "huber": Loss(huber_error, average="logit", each_output=True),
}

LOSSES_OF: Mapping[Head, Mapping[str, Loss]] = {
    "classes": LOSSES,
    "labels": {
        "kl": Loss(binary_kl, each_output=True),
        "reverse_kl": Loss(binary_reverse_kl, average="logit", each_output=True),
        "jsd": Loss(binary_jsd, each_output=True),
        **_OF_NUMBERS,
    },
    "values": _OF_NUMBERS,
}


def check_head(head: str | None) -> None:
    """Refuse a head that there is none of.

    Raises:
        HeadstartError: It is unknown.
    """
    if head is not None and head not in get_args(Head):
        kinds = ", ".join(f"{kind!r} ({meaning})" for kind, meaning in MEANING.items())
        raise HeadstartError(f"head={head!r} is unknown; choose one of {kinds}")


def loss_of(head: Head, loss: str | LossFunction) -> Loss:
    """The loss of a name, or a function of the user's own, for a kind of head.

    A function of ours counts as its name.

    Raises:
        HeadstartError: It is unknown, or means nothing for such a head.

    Example:
        >>> loss_of("labels", "kl").function.__name__
        'binary_kl'
    """
    if not isinstance(loss, str):
        name = next((name for name, known in LOSSES.items() if known.function is loss), None)
        if name is None:
            return Loss(loss, average="logit" if head == "values" else "probability")
        loss = name
    if loss not in LOSSES:
        raise HeadstartError(f"loss={loss!r} is unknown; choose one of {', '.join(LOSSES)}, or give a function")
    fitting = LOSSES_OF[head]
    if loss not in fitting:
        raise HeadstartError(
            f"loss={loss!r} means nothing for head={head!r} ({MEANING[head]}); set loss to one of "
            f"{', '.join(fitting)}, or give a function"
        )
    return fitting[loss]
