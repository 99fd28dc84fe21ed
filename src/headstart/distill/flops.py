"""Floating-point operations of a step, counted exactly and without computing anything."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from headstart.distill.inputs import each_tensor
from headstart.distill.projection import Logits, as_logits
from headstart.errors import HeadstartError

# Operators whose work is not counted, by the field's convention: 2 FLOPs per multiply-add of matrix products,
# convolutions and attention, nothing for what is linear in the size of its input. Pointwise operators and views are
# recognised by torch's own marks, where it has set them.
_LINEAR = """
    native_batch_norm native_batch_norm_backward cudnn_batch_norm cudnn_batch_norm_backward batch_norm_backward
    _native_batch_norm_legit _native_batch_norm_legit_no_training _batch_norm_with_update _batch_norm_no_update
    native_layer_norm native_layer_norm_backward native_group_norm native_group_norm_backward linalg_vector_norm
    _fused_rms_norm _fused_rms_norm_backward native_dropout native_dropout_backward
    max_pool2d_with_indices max_pool2d_with_indices_backward avg_pool2d avg_pool2d_backward
    _adaptive_avg_pool2d _adaptive_avg_pool2d_backward adaptive_max_pool2d adaptive_max_pool2d_backward
    upsample_nearest2d upsample_nearest2d_backward upsample_bilinear2d upsample_bilinear2d_backward
    upsample_bicubic2d upsample_bicubic2d_backward reflection_pad2d reflection_pad2d_backward constant_pad_nd
    _softmax _softmax_backward_data _log_softmax _log_softmax_backward_data _safe_softmax logsumexp
    nll_loss_forward nll_loss_backward
    elu_backward glu glu_backward hardsigmoid_backward hardswish hardswish_backward hardtanh_backward
    leaky_relu_backward mish mish_backward softplus_backward _prelu_kernel _prelu_kernel_backward
    sum mean amax amin max min argmax any all prod var var_mean std cumsum
    cat stack repeat flip roll tril triu index index_select index_put index_add gather scatter embedding
    embedding_dense_backward slice_backward select_backward unfold_backward im2col col2im _unsafe_view
    pixel_shuffle pixel_unshuffle channel_shuffle as_strided
    clone copy _to_copy lift_fresh fill zero masked_fill new_zeros new_ones new_full new_empty
    new_empty_strided zeros_like ones_like full_like empty_like zeros ones full empty empty_strided scalar_tensor
    arange linspace bernoulli rand rand_like randn randn_like
"""
_LINEAR_NAMES = frozenset(_LINEAR.split())


Forward = Callable[[nn.Module, Any], Logits]


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        packet = func.overloadpacket
        if packet is torch.ops.aten.convolution_backward:
            self.flops += _convolution_backward(*args, **kwargs)
        elif packet in flop_registry:
            self.flops += int(flop_registry[packet](*args, **kwargs, out_val=result))
        elif not (_is_linear(packet) or func.is_view or torch.Tag.pointwise in func.tags or func.namespace == "prim"):
            raise HeadstartError(
                f"cannot count FLOPs: nothing is known about the operator {func}; register a formula with "
                "torch.utils.flop_counter.register_flop_formula"
            )
        return result


def count_flops(function: Callable[[], Any]) -> int:
    """FLOPs of a call: 2 per multiply-add of matrix products, convolutions and attention.

    Args:
        function: Called once. On tensors of the meta device it computes nothing.

    Raises:
        HeadstartError: An operator is met whose FLOPs are not known; it is named.

    Example:
        >>> count_flops(lambda: torch.ones(2, 3) @ torch.ones(3, 4))
        48
    """
    counter = _Counter()
    with counter:
        function()
    return counter.flops


def _call(model: nn.Module, inputs: Any) -> Tensor:
    logits: Tensor = model(inputs)
    return logits


def step_flops(model: nn.Module, inputs: Any, forward: Forward = _call) -> int:
    """FLOPs of a model's forward and backward on a batch; the model itself is not touched.

    Args:
        model: The student.
        inputs: A tensor, or tensors in whatever container `each_tensor` looks into.
        forward: From model and inputs to logits, or what they can be made of: making them is counted.

    Raises:
        HeadstartError: As `count_flops`.
    """
    model, inputs = copy.deepcopy(model).to("meta"), on_meta(inputs)
    model.train()
    return count_flops(lambda: as_logits(forward(model, inputs)).sum().backward())  # type: ignore[no-untyped-call]


def forward_flops(model: nn.Module, inputs: Any, forward: Forward = _call) -> int:
    """FLOPs of a model's forward on a batch in eval mode; the model itself is not touched. As `step_flops` otherwise.

    Raises:
        HeadstartError: As `count_flops`.
    """
    model, inputs = copy.deepcopy(model).to("meta"), on_meta(inputs)
    model.eval()
    with torch.no_grad():
        return count_flops(lambda: as_logits(forward(model, inputs)))


def on_meta(inputs: Any) -> Any:
    """A batch's inputs without their values."""
    return each_tensor(lambda tensor: tensor.to("meta"), inputs)


def _is_linear(packet: Any) -> bool:
    return str(packet).removeprefix("aten.").rstrip("_") in _LINEAR_NAMES


def _convolution_backward(
    gradient: Tensor, inputs: Tensor, weight: Tensor, _sizes: Any, _stride: Any, _padding: Any, _dilation: Any,
    transposed: bool, _output_padding: Any, _groups: int, output_mask: tuple[bool, bool, bool],
) -> int:  # fmt: skip
    """Each of the gradients of inputs and weight takes the multiply-adds of the forward.

    torch's own formula takes no account of groups (2.13), and counts a depthwise convolution many times over.
    """
    forward = 2 * (inputs if transposed else gradient).numel() * weight[0].numel()
    return forward * (output_mask[0] + output_mask[1])
