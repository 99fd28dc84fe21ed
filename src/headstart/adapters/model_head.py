"""What a model of transformers gives: which of its outputs are logits, and what a row of them means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from headstart.distill.inputs import logits_in
from headstart.distill.objective import IGNORED
from headstart.distill.vocabulary import inside
from headstart.errors import HeadstartError

Logits: TypeAlias = Tensor | dict[str, Tensor]  # of one head, or of several by name

_ANSWER = ("start_logits", "end_logits")  # what models for question answering call theirs
BACKGROUND = 255  # what models for maps of classes ignore, beside -100

# By the ends of transformers' own names.
_NO_LOGITS = {
    "ObjectDetection": "its queries are matched to objects (boxes) anew for student and teacher",
    "DetrForSegmentation": "its queries are matched to objects anew for student and teacher",
    "InstanceSegmentation": "its queries are matched to objects anew for student and teacher",
    "UniversalSegmentation": "its queries are matched to objects anew for student and teacher",
    "ForCTC": "CTC sums over alignments of its frames to the text, so that no frame has a label of its own",
    "ForRNNT": "a transducer sums over alignments of its frames to the text, so that none has a label of its own",
    "ForTDT": "a transducer sums over alignments of its frames to the text, so that none has a label of its own",
    "ForPreTraining": "its outputs are those of a pretext task (pixels, or several heads at once)",
    "ForMaskedImageModeling": "its outputs are pixels",
    "ForDepthEstimation": "its outputs are distances",
    "ForKeypointDetection": "its outputs are places",
    "ForXVector": "its loss is not the softmax of its logits",
    "TapasForQuestionAnswering": "its cells are chosen by a distribution of its own",
}
_CLASSIFIERS = (
    "ForSequenceClassification",
    "ForImageClassification",
    "ForAudioClassification",
    "ForVideoClassification",
    "ForTimeSeriesClassification",
)
_KINDS = {"regression": "values", "multi_label_classification": "labels", "single_label_classification": "classes"}


def check_model(model: nn.Module) -> None:
    """Refuse a model whose outputs no loss of ours means something for.

    Raises:
        HeadstartError: It is one of these; says why, and what can be distilled.

    Example:
        >>> check_model(nn.Linear(2, 3))
    """
    reason = why_not(type(inside(model)))
    if reason is not None:
        raise HeadstartError(reason)


def why_not(kind: type) -> str | None:
    """Why no loss of ours means something for the outputs of a class of transformers, and what can be distilled.

    Example:
        >>> why_not(nn.Linear) is None
        True
    """
    for name in _names_of(kind):
        why = next((why for end, why in _NO_LOGITS.items() if name.endswith(end)), None)
        if why is not None:
            return (
                f"{name} cannot be distilled: {why}, so that no row of its logits belongs to the same thing in both. "
                "What can be: classes (of images, texts, tokens or pixels), several labels at once, values, answers' "
                "start and end, and language models. Or distil what such a model begins with (its backbone, its "
                "encoder) in a loop of your own"
            )
    return None


def head_options(model: Any, labels: Any = None) -> dict[str, Any]:
    """The options of a Distiller that a model tells: `head` and `class_dim`, those that are certain.

    Args:
        model: The student.
        labels: Those of a batch, which tell it where the model's configuration leaves it to them.

    Example:
        >>> head_options(nn.Linear(2, 3))
        {}
    """
    names, config = _names(model), getattr(inside(model), "config", None)
    if any(name.endswith("ForQuestionAnswering") for name in names) and getattr(config, "return_dict", True) is False:
        raise HeadstartError(
            "a tuple does not name an answer's start and end; set return_dict=True in the student's configuration"
        )
    if any(name.endswith("ForSemanticSegmentation") for name in names):
        return {"head": "classes", "class_dim": 1}
    if "ViltForQuestionAnswering" in names:
        return {"head": "labels"}
    if not any(name.endswith(_CLASSIFIERS) for name in names):
        return {}
    if (problem := getattr(config, "problem_type", None)) in _KINDS:
        return {"head": _KINDS[problem]}
    if getattr(config, "num_labels", None) == 1:
        return {"head": "values"}  # which is what these models' own loss then is
    if isinstance(labels, Tensor):
        return {"head": "labels" if labels.is_floating_point() else "classes"}
    return {}


def logits_of(outputs: Any, after_loss: bool) -> Logits | None:
    """The logits of a model's outputs, `[..., classes]`, or an answer's start and end; None where there are none.

    Args:
        outputs: The logits alone, a mapping or an object that names them, or a tuple.
        after_loss: Whether a tuple begins with the loss, as that of a model which was given the labels does. It
            goes on with the logits.

    Example:
        >>> import torch
        >>> logits_of((torch.ones(()), torch.zeros(2, 3)), after_loss=True).shape
        torch.Size([2, 3])
    """
    logits = logits_in(outputs)
    found: Any = outputs if isinstance(outputs, Mapping) else {name: getattr(outputs, name, None) for name in _ANSWER}
    answer: dict[str, Tensor] = {name: found[name] for name in _ANSWER if isinstance(found.get(name), Tensor)}
    if logits is None and len(answer) == len(_ANSWER):
        return answer
    if logits is None and isinstance(outputs, Sequence):
        logits = next(iter(outputs[int(after_loss) :]), None)
    return logits if isinstance(logits, Tensor) else None


def loss_in(outputs: Any) -> Tensor | None:
    """The loss of a model's outputs, which a tuple begins with; None where there is none."""
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
    if loss is None and isinstance(outputs, tuple) and outputs and isinstance(outputs[0], Tensor):
        loss = outputs[0] if outputs[0].dim() == 0 else None
    return loss


def check_labels(labels: Any) -> None:
    """Refuse labels that are no tensor.

    Raises:
        HeadstartError: They are not.

    Example:
        >>> check_labels(None)
    """
    if labels is None or isinstance(labels, Tensor):
        return
    inner = f" of {type(labels[0]).__name__}" if isinstance(labels, Sequence) and labels else ""
    raise HeadstartError(
        f"the labels of a batch are a {type(labels).__name__}{inner}, one for each sample, as object detection has "
        "them: no row of the logits belongs to a label, so that nothing can be distilled. What can be are models with "
        "a row of logits for each label: classes of images, texts, tokens or pixels, and language models"
    )


def are_maps(labels: Tensor, logits: Tensor) -> bool:
    """Whether these can only be maps of labels, and of logits that have their classes second."""
    return logits.dim() == 4 and labels.dim() == 3 and labels.shape != logits.shape[:-1]


def small_maps(labels: Tensor, logits: Tensor) -> Tensor:
    """Maps of labels at the size of maps of logits, from the nearest pixels.

    Args:
        labels: `[batch, height, width]` of int64, any size; 255 and -100 have no class.
        logits: `[batch, classes, height, width]`.

    Example:
        >>> small_maps(torch.tensor([[[1, 1], [255, 2]]]), torch.zeros(1, 3, 1, 1))
        tensor([[[1]]])
    """
    small = F.interpolate(labels.unsqueeze(1).double(), logits.shape[-2:], mode="nearest").squeeze(1).long()
    return torch.where(small == BACKGROUND, IGNORED, small)


def _names(model: Any) -> list[str]:
    """Of its class, and of those of transformers that this is made from."""
    return _names_of(type(inside(model)))


def _names_of(kind: type) -> list[str]:
    return [base.__name__ for base in kind.__mro__ if base.__module__.startswith("transformers.")]
