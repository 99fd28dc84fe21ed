"""Modules in parts over all processes, and the teachers of a pool that are."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import chain

import torch
from torch import distributed, fx, nn

from headstart.distill.later import together
from headstart.distill.pool.teacher import Teacher
from headstart.errors import TeacherError


def shard(module: nn.Module, device: torch.device, *, trained: bool) -> None:
    """Spread a module's parameters, and what is made of them, over all processes (FSDP2), in place.

    Each layer of the module's stacks (`ModuleList`, `Sequential`) is gathered when it is its turn and let go again,
    what is left with the module itself. It comes to the device layer by layer, so that the device never holds all of
    it.

    Args:
        module: On any device; all processes take the first one's weights.
        device: Where it is to compute.
        trained: Whether a backward pass follows the forward, so that what is left stays gathered until then.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    for part in (*list(layers(module)), module):
        _settle(part, device)
        fully_shard(part, mesh=mesh, reshard_after_forward=part is not module or not trained)


class Shards:
    """Teachers of which each process holds a part.

    To ask one is a collective call: all processes ask the same one at the same time. Where there is one process, they
    stay whole.
    """

    def __init__(self) -> None:
        self._outlines: dict[object, nn.Module] = {}

    def admit(self, teacher: Teacher) -> None:
        """Take a teacher in, as it is.

        Raises:
            TeacherError: It has a device of its own, or its forward passes its layers by.
        """
        if teacher.device is not None:
            raise TeacherError(
                f"teacher {teacher.name!r} stays on {teacher.device}, but residence='sharded' spreads teachers over "
                "the devices of all processes; leave its device out, or set residence='device'"
            )
        if teacher.compiled or isinstance(teacher.module, fx.GraphModule):
            raise TeacherError(
                f"teacher {teacher.name!r} is folded or compiled, so that its layers are not called one by one, as "
                "residence='sharded' needs it; leave fold and compile out, or set residence='device'"
            )

    def bring(self, teacher: object, device: torch.device, then: object) -> bool:
        """Have a teacher in parts on the devices, from the first call on; all processes have to call it.

        Args:
            teacher: The one to be asked now.
            device: Where.
            then: Without effect: there is nothing to be done ahead.

        Returns:
            Whether it is one of those admitted, and there are several processes.
        """
        if not isinstance(teacher, Teacher) or not _several():
            return False
        if teacher not in self._outlines:
            self._outlines[teacher] = copy.deepcopy(teacher.module).to("meta")
            shard(teacher.module, device, trained=False)
        return True

    def outline(self, teacher: Teacher) -> nn.Module:
        """The module, or where it is in parts, one like it without values."""
        return self._outlines.get(teacher, teacher.module)


def layers(module: nn.Module) -> Iterator[nn.Module]:
    """The elements of stacks, the outermost ones where stacks are in stacks."""
    for child in module.children():
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and next(child.parameters(), None) is not None:
            yield child
        else:
            yield from layers(child)


def _settle(module: nn.Module, device: torch.device) -> None:
    """Bring what is still whole to the device, in the one memory format that FSDP2 takes, with the same values."""
    from torch.distributed.tensor import DTensor

    for tensor in chain(module.parameters(), module.buffers()):
        if not isinstance(tensor, DTensor):
            tensor.data = tensor.data.to(device).contiguous()
    for value in module.state_dict().values():
        if not isinstance(value, DTensor):
            distributed.broadcast(value, 0)


def _several() -> bool:
    return together() and distributed.get_world_size() > 1
