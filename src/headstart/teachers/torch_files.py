"""Files of `torch.save`, read as data: nothing in them is executed, and no class that they name is imported."""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from headstart.errors import TeacherError


class _Inert:
    """Stands for an object that is not needed: it is made of anything, does nothing, and forgets what it is told."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _InertMapping(_Inert):
    """For classes of mappings, which torch's reader fills item by item only where it knows them."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


class _InertSequence(_Inert):
    """As `_InertMapping`."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return []


# What training programs keep beside the weights: settings, paths, times, numbers of numpy. By name alone: these classes
# are never looked up. A function that a file could call to do harm is none of them, and is refused.
_OBJECTS = """
    argparse.Namespace types.SimpleNamespace
    builtins.dict builtins.list builtins.int builtins.float builtins.str builtins.bool builtins.set builtins.tuple
    builtins.slice builtins.complex builtins.frozenset
    pathlib.Path pathlib.PosixPath pathlib.WindowsPath pathlib.PurePosixPath pathlib.PureWindowsPath
    pathlib._local.Path pathlib._local.PosixPath pathlib._local.WindowsPath
    datetime.datetime datetime.date datetime.timedelta datetime.timezone uuid.UUID decimal.Decimal fractions.Fraction
    typing.Any ml_collections.config_dict.config_dict.ConfigDict mmengine.logging.history_buffer.HistoryBuffer
    omegaconf.dictconfig.DictConfig omegaconf.listconfig.ListConfig omegaconf.base.Metadata
    omegaconf.base.ContainerMetadata omegaconf.nodes.AnyNode omegaconf.nodes.IntegerNode omegaconf.nodes.FloatNode
    omegaconf.nodes.StringNode omegaconf.nodes.BooleanNode
    numpy.dtype numpy.ndarray numpy.bool_ numpy.int32 numpy.int64 numpy.float16 numpy.float32 numpy.float64
    numpy.core.multiarray.scalar numpy.core.multiarray._reconstruct
    numpy._core.multiarray.scalar numpy._core.multiarray._reconstruct numpy._core.numeric._frombuffer
    numpy.dtypes.BoolDType numpy.dtypes.Int32DType numpy.dtypes.Int64DType numpy.dtypes.UInt8DType
    numpy.dtypes.UInt32DType numpy.dtypes.UInt64DType numpy.dtypes.Float16DType numpy.dtypes.Float32DType
    numpy.dtypes.Float64DType numpy.dtypes.StrDType numpy.dtypes.ObjectDType
"""
_MAPPINGS = """
    collections.defaultdict easydict.EasyDict addict.addict.Dict yacs.config.CfgNode fvcore.common.config.CfgNode
    mmengine.config.config.ConfigDict mmcv.utils.config.ConfigDict
    lightning.fabric.utilities.data.AttributeDict lightning_fabric.utilities.data.AttributeDict
    pytorch_lightning.utilities.parsing.AttributeDict lightning.pytorch.utilities.parsing.AttributeDict
"""
_SEQUENCES = "collections.deque"
_STAND_INS: list[Any] = [
    (type(name, (kind,), {}), name)  # a class for each, as torch tells them apart by it
    for kind, names in ((_Inert, _OBJECTS), (_InertMapping, _MAPPINGS), (_InertSequence, _SEQUENCES))
    for name in names.split()
]


def read_torch(path: Path) -> Any:
    """What `torch.save` wrote: tensors, plain values and containers of them; other known data are empty.

    Raises:
        TeacherError: The file is truncated or damaged, or holds a class or function that could execute code; named.
    """
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            with torch.serialization.safe_globals(_STAND_INS):
                return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise TeacherError(_refusal(path, str(error))) from None
    except Exception as error:  # which one a damaged file leads to depends on the damage
        if "TorchScript" in str(error):
            raise TeacherError(
                f"{path}: is an archive of TorchScript, which holds code beside its weights and is not run. If you "
                "trust it, give what torch.jit.load(path) gives as a teacher; or save the weights alone where it was "
                "made"
            ) from None
        raise TeacherError(f"{path}: cannot be read ({error}); the file is truncated or damaged") from None


def _refusal(path: Path, reason: str) -> str:
    found = re.search(
        r"(?:GLOBAL|module) `?([\w.]+\.\w+)`? was not|class ([\w.]+)|global(?:s)? `?([\w]+\.[\w.]+)", reason
    )
    what = next((group for group in found.groups() if group), None) if found else None
    held = (
        f"it holds {what} beside its tensors" if what else "it holds more than tensors and plain values, or is damaged"
    )
    return (
        f"{path}: is refused, as reading it could execute code ({held}); in the program that made it, save the weights "
        "alone: torch.save(model.state_dict(), path); or, if you trust the file, once and for all: "
        "torch.save(torch.load(path, weights_only=False)['state_dict'], new_path), with the key that its weights have"
    )
