"""A teacher's forward: what it is given, and the logits in what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from headstart.distill.heads.several import Names, heads_in
from headstart.distill.inputs import call, each_tensor, logits_in, projection_in, versions, wrapped_in
from headstart.distill.pool.pooled import check_padding
from headstart.distill.projection import Logits
from headstart.errors import TeacherError

# Any of these tells what a decoder reads.
_DECODER_READS = ("decoder_input_ids", "decoder_inputs_embeds", "labels")
_PLAIN = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Forward:
    """Calls a teacher's module so that nothing it writes into its inputs reaches the student.

    The first call is given copies. If they come back as they were, later ones are given the inputs themselves, and a
    write that comes only then is refused; a module that writes is given copies for good.

    Args:
        function: The module, or what `torch.compile` made of it.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._writes: bool | None = None

    def __call__(self, inputs: Any, name: str) -> Logits:
        """The logits that the module returns, or what stands for them.

        Args:
            inputs: As in `call`.
            name: The teacher's, for messages.

        Raises:
            TeacherError: There are none, the inputs do not fit, or it writes into them now, and has not done so before.
        """
        return self.heads(inputs, name, ())[0]

    def heads(self, inputs: Any, name: str, names: Names) -> list[Logits]:
        """The logits of the heads of these names; or, without any, those of the only one. Otherwise as the call."""
        if self._writes is None:
            check_padding(self._function, inputs, name)
        if self._writes is not False:
            inputs = each_tensor(Tensor.clone, inputs)
        before = versions(inputs)
        try:
            outputs = call(self._function, inputs)
        except Exception as error:
            if self._is_misfit(error):
                raise TeacherError(_misfit(error, inputs, name)) from error
            error.add_note(f"in the forward of teacher {name!r}")
            raise
        written = versions(inputs) != before
        if written and self._writes is False:
            raise TeacherError(
                f"teacher {name!r} wrote into its inputs in place, as it did not in its first call, so that the "
                "student's batch is changed; have its forward write into a copy (Teacher(prepare=...) may make one)"
            )
        self._writes = written or bool(self._writes)
        return [*_heads(outputs, name, names)] if names else [projection_in(outputs) or _logits(outputs, name)]

    def _is_misfit(self, error: Exception) -> bool:
        """Whether a forward fails because of what it is given: in its first call, or by an index that it does not have.

        What else goes wrong (no memory left, a lost device) is none of the teacher's, and other code waits for it.
        """
        usual = isinstance(error, TypeError | ValueError | AttributeError | KeyError) or type(error) is RuntimeError
        return isinstance(error, IndexError) or (self._writes is None and usual and "memory" not in str(error))


def named_inputs(module: Any, inputs: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Of a batch's named inputs those that a module's forward takes; all of them where it does not tell.

    Args:
        module: The teacher's.
        inputs: As the student was given them, and prepared.
        name: The teacher's, for messages.

    Raises:
        TeacherError: One that the forward needs is missing.
    """
    module = wrapped_in(module)
    if isinstance(module, torch.jit.ScriptModule):
        return inputs
    parameters = inspect.signature(module.forward).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    # Models of transformers declare all inputs optional; this one they complain without.
    main = getattr(module, "main_input_name", None)
    if isinstance(main, str) and "inputs_embeds" not in inputs:
        needed.append(main)
    missing = sorted({name for name in needed if name not in inputs})
    if missing:
        raise TeacherError(
            f"teacher {name!r} needs the input {' and '.join(map(repr, missing))}, which the batch lacks (it "
            f"has {', '.join(inputs) or 'none'}); add it to the batch, or make it in Teacher(prepare=...)"
        )
    _check_decoder(module, inputs, name)
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return inputs
    taken = {p.name for p in parameters}
    return {name: value for name, value in inputs.items() if name in taken}


def _check_decoder(module: Any, inputs: Mapping[str, Any], name: str) -> None:
    """Refuse a batch without what the decoder of an encoder-decoder reads: some would decode their source instead."""
    generates = getattr(module, "can_generate", None)
    if getattr(getattr(module, "config", None), "is_encoder_decoder", False) is not True or not callable(generates):
        return
    if generates() and not any(inputs.get(key) is not None for key in _DECODER_READS):
        raise TeacherError(
            f"teacher {name!r} is an encoder-decoder, and the batch does not tell what its decoder reads (it has "
            f"{', '.join(inputs)}); give the Distiller the batch with its `labels`, of which the teacher makes it, or "
            "with `decoder_input_ids`, as model.prepare_decoder_input_ids_from_labels(labels) gives them"
        )


def input_dtype(module: nn.Module) -> torch.dtype | None:
    """The dtype that a module's layers take: that of its first floating parameter with two dimensions or more.

    Norms, whose parameters have one, are often kept in float32 where the layers are in half precision. None where no
    parameter tells, as in quantised modules.

    Example:
        >>> input_dtype(nn.Sequential(nn.LayerNorm(2), nn.Linear(2, 3).half()))
        torch.float16
    """
    found = (parameter for parameter in module.parameters() if parameter.dim() > 1 and parameter.is_floating_point())
    first = next(found, None)
    return first.dtype if first is not None and first.dtype in _PLAIN else None


def first_held(module: nn.Module) -> Tensor | None:
    """A parameter or buffer of a module, which tells its device."""
    return next(chain(module.parameters(), module.buffers()), None)


def _logits(outputs: Any, name: str) -> Tensor:
    logits = logits_in(outputs)
    if logits is None and type(outputs) in (tuple, list):
        logits = _first_of(outputs, name)
    if logits is None:
        raise TeacherError(
            f"teacher {name!r}: its forward gave no logits; it must return a tensor, or an object with `logits`, or a "
            f"tuple that begins with them, not {type(outputs).__name__}"
        )
    return logits


def _heads(outputs: Any, name: str, names: Names) -> list[Tensor]:
    found = heads_in(outputs, names)
    if isinstance(found, str):
        raise TeacherError(
            f"teacher {name!r}: the student gives the heads {', '.join(map(repr, names))}, and this teacher's forward "
            f"gives {found}; both need the same"
        )
    return found


def _first_of(outputs: Any, name: str) -> Tensor | None:
    """The logits of (logits, loss), (logits, state) and their like; what else a tuple begins with is refused."""
    first = outputs[0] if outputs else None
    if isinstance(first, Tensor) and first.dim() > 1 and first.is_floating_point():
        return first
    kind = f"a tensor of shape {tuple(first.shape)}" if isinstance(first, Tensor) else type(first).__name__
    raise TeacherError(
        f"teacher {name!r}: its forward gave a tuple of {len(outputs)} that begins with {kind}, which are no logits "
        "`[..., classes]`; wrap it in a module whose forward returns the logits, such as `model(inputs)[1]`"
    )


def _misfit(error: Exception, inputs: Any, name: str) -> str:
    """What went wrong, and what may be meant where arguments do not fit."""
    reason = f"in the forward of teacher {name!r}: {type(error).__name__}: {error}"
    if isinstance(inputs, list) and isinstance(error, (TypeError, AttributeError)):
        return f"{reason}; a list is given to it as one argument, so give a tuple where it takes several"
    if isinstance(inputs, tuple) and isinstance(error, TypeError):
        return (
            f"{reason}; a tuple is given to it as {len(inputs)} arguments, so give (inputs,) or a list where it takes "
            "one, and leave labels out"
        )
    if isinstance(error, IndexError):
        return (
            f"{reason}. The batch has an index (a token, a position) beyond what this teacher has; take one with as "
            "many, or change its inputs by Teacher(prepare=...)"
        )
    return f"{reason}. It must take the inputs that the student is given; Teacher(size=, prepare=...) changes them"
