"""A student that wrote into its inputs before the teachers saw them: found without running anything for real."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from headstart.distill.inputs import call, each_tensor, versions, wrapped_in
from headstart.distill.later import together
from headstart.errors import HeadstartError


def check_unwritten(inputs: Any, logits: Tensor, teachers: Iterable[nn.Module]) -> None:
    """Refuse inputs that the student's forward has changed in place.

    A tensor tells how often it was written to, but not by whom: the loader may have normalised the batch. Only where it
    was written to at all is the student looked up, as the module that holds the parameters its logits depend on, and
    called with tensors that have shapes and no values. Its weights, its buffers and the random generators stay as they
    are. Where it cannot be called so, or has hooks, which would keep what they see, nothing is said.

    Args:
        inputs: What the student was given.
        logits: What it gave.
        teachers: None of these is the student.

    Raises:
        HeadstartError: It writes.
    """
    written = any(count > 0 for count in versions(inputs))
    if not written or together():  # with others, a forward may wait for them
        return
    others = {id(module) for teacher in teachers for module in teacher.modules()}
    for student in _holders(_parameters_behind(logits)):
        if id(student) not in others and _writes(student, inputs):
            raise HeadstartError(
                f"the student ({type(student).__name__}) changes its inputs in place, so that the teachers would be "
                "given what it has written; have its forward write into a copy, or call distiller.prefetch(inputs) "
                "before it"
            )


def _parameters_behind(logits: Tensor) -> list[Tensor]:
    """The leaves of the graph of logits."""
    found: dict[int, Tensor] = {}
    seen: set[Node] = set()
    nodes = [logits.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor):
            found[id(leaf)] = leaf
        nodes += [parent for parent, _ in node.next_functions]
    return list(found.values())


def _holders(leaves: list[Tensor]) -> Iterator[nn.Module]:
    """The modules that hold all of them, without those that only wrap another one."""
    wanted = {id(leaf) for leaf in leaves}
    for thing in gc.get_objects() if wanted else ():
        if not issubclass(type(thing), nn.Module) or wrapped_in(thing) is not thing:
            continue
        if wanted <= {id(parameter) for parameter in thing.parameters()}:
            yield thing


def _writes(module: nn.Module, inputs: Any) -> bool:
    """Whether a forward writes into its inputs; False where it cannot be tried."""
    if any(part._forward_hooks or part._forward_pre_hooks for part in module.modules()):
        return False
    from torch._subclasses.fake_tensor import FakeTensorMode  # loads much, and is seldom needed

    fake = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        with fake, torch.no_grad():
            state: dict[str, Tensor] = {
                name: fake.from_tensor(value.detach())
                for name, value in (*module.named_parameters(), *module.named_buffers())
            }
            given = each_tensor(lambda tensor: fake.from_tensor(tensor.detach()).clone(), inputs)
            before = versions(given)
            call(_Functional(module, state), given)
            return versions(given) != before
    except Exception:  # it looks at values, or is no model for these inputs
        return False


class _Functional:
    """A module with other weights."""

    def __init__(self, module: nn.Module, state: dict[str, Tensor]) -> None:
        self.forward, self._module, self._state = module.forward, module, state  # `call` looks at the forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return torch.func.functional_call(self._module, self._state, args, kwargs)
