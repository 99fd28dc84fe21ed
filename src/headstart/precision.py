"""Where bfloat16 is computed in hardware, and what it costs where it is not."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import torch
from torch.nn import functional as F

from headstart.timing import quickest

Chosen = Literal["fp32", "bf16"]
Precision = Literal["auto", "fp32", "bf16"]

AUTOCAST: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16}
"""The dtype of `torch.autocast` for each precision; None: no autocast."""

# Instruction sets that oneDNN can be held to (ONEDNN_MAX_CPU_ISA) and that lack bfloat16.
_WITHOUT = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}


def chosen_for(precision: Precision, device: torch.device) -> Chosen:
    """The precision itself; for `auto` bf16 where the device computes it in hardware, else fp32.

    Example:
        >>> chosen_for("bf16", torch.device("cpu"))
        'bf16'
        >>> chosen_for("auto", torch.device("meta"))
        'fp32'
    """
    if precision != "auto":
        return precision
    return "bf16" if has_bf16(device) else "fp32"


def has_bf16(device: torch.device) -> bool:
    """Whether matrix products and convolutions in bfloat16 are done by the device's hardware.

    - CUDA: from compute capability 8 (Ampere) on; ROCm as torch says.
    - x86: AVX512-BF16 or AMX. AVX512 alone is not enough, although oneDNN then claims to support it: it converts.
      A processor that is held to less with `ONEDNN_MAX_CPU_ISA` counts as less.
    - ARM under Linux: as oneDNN says, which looks for the instructions.
    - Anything else, Apple's GPUs among them: no, as nothing has been measured there.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and _processor_has_bf16()


@cache
def bf16_slowdown(device: torch.device) -> float:
    """How many times as long bfloat16 takes as fp32 on a device: a small convolution and a matrix product, tried now.

    It takes some ten milliseconds, once in a process, and is a rough figure: the real one depends on the model.
    """
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(256, 256, generator=generator).to(device)
    images = torch.randn(8, 16, 16, 16, generator=generator).to(device)
    kernel = torch.randn(16, 16, 3, 3, generator=generator).to(device)

    def work(dtype: torch.dtype) -> Callable[[], Any]:
        square, batch, weight = matrix.to(dtype), images.to(dtype), kernel.to(dtype)
        return lambda: (square @ square, F.conv2d(batch, weight, padding=1))

    with torch.no_grad():
        return quickest(work(torch.bfloat16), device) / quickest(work(torch.float32), device)


def slow_bf16(precision: str, device: torch.device) -> str:
    """A sentence for those who asked for bf16 where it is computed in software; else empty."""
    if precision != "bf16" or has_bf16(device):
        return ""
    factor = bf16_slowdown(device)
    if factor < 1:
        return ""
    return (
        f"precision bf16: this {_kind(device)} computes bfloat16 in software; a convolution and a matrix product took "
        f"{factor:.1f} times as long as in fp32 when tried just now. fp32, or auto, is quicker here"
    )


def why_auto(device: torch.device) -> str:
    """Why `auto` is what it is on a device, in a few words: "this processor computes bfloat16 in hardware", say."""
    how = "computes bfloat16 in hardware" if has_bf16(device) else "is not known to compute bfloat16 in hardware"
    return f"this {_kind(device)} {how}"


def _kind(device: torch.device) -> str:
    return "processor" if device.type == "cpu" else "device"


def _processor_has_bf16() -> bool:
    if os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "")).upper() in _WITHOUT:
        return False
    if platform.machine().lower() in ("arm64", "aarch64"):
        return sys.platform == "linux" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    # Names that torch does not promise to keep: without them the answer is the slower one, which is safe.
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in known)
