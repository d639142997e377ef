"""The closed list of operators that a program may call.

All of them compute tensors and sizes from tensors and numbers: none opens a file, draws at
random or calls back. What is not listed is refused by name, at export and when a program
is read. `aten` names are PyTorch's own, ``operator`` stands for Python's on sizes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch

CONVOLUTIONS_AND_PRODUCTS = """
    conv1d.default conv2d.default conv2d.padding conv3d.default conv_transpose2d.input
    convolution.default linear.default
    matmul.default mm.default mv.default dot.default vdot.default bmm.default addmm.default
    baddbmm.default bilinear.default einsum.default scaled_dot_product_attention.default gru.input
    lstm.input
"""
NORMALISATION = """
    batch_norm.default group_norm.default layer_norm.default instance_norm.default rms_norm.default
    linalg_vector_norm.default norm.ScalarOpt_dim _weight_norm.default cosine_similarity.default
"""
ACTIVATIONS = """
    relu.default relu_.default relu6.default relu6_.default prelu.default leaky_relu.default
    leaky_relu_.default elu.default elu_.default celu.default selu.default selu_.default gelu.default
    mish.default mish_.default silu.default silu_.default sigmoid.default sigmoid_.default tanh.default
    tanh_.default hardtanh.default hardtanh_.default hardsigmoid.default hardsigmoid_.default
    hardswish.default hardswish_.default softplus.default glu.default log_sigmoid.default softmax.int
    _softmax.default log_softmax.int _log_softmax.default erf.default
"""
POOLING_AND_RESIZING = """
    max_pool2d.default max_pool2d_with_indices.default max_unpool2d.default avg_pool1d.default
    avg_pool2d.default avg_pool3d.default adaptive_avg_pool1d.default adaptive_avg_pool2d.default
    adaptive_max_pool2d.default
    upsample_bilinear2d.vec upsample_bilinear2d.default upsample_nearest2d.vec upsample_nearest2d.default
    _upsample_bilinear2d_aa.vec _upsample_bicubic2d_aa.vec _upsample_nearest_exact2d.vec
    upsample_bicubic2d.vec upsample_bicubic2d.default grid_sampler.default affine_grid_generator.default
    pixel_shuffle.default pixel_unshuffle.default channel_shuffle.default im2col.default col2im.default
    pad.default constant_pad_nd.default reflection_pad2d.default replication_pad2d.default
"""
ARITHMETIC = """
    add.Tensor add.Scalar add_.Tensor add_.Scalar sub.Tensor sub.Scalar sub_.Tensor sub_.Scalar
    rsub.Tensor rsub.Scalar mul.Tensor mul.Scalar mul_.Tensor mul_.Scalar div.Tensor div.Scalar
    div.Tensor_mode div.Scalar_mode div_.Tensor div_.Scalar floor_divide.default remainder.Scalar
    remainder.Tensor pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar square.default sqrt.default
    rsqrt.default reciprocal.default exp.default log.default abs.default neg.default sign.default
    floor.default ceil.default round.default sin.default cos.default clamp.default clamp.Tensor
    clamp_.default clamp_min.default clamp_min_.default clamp_max.default maximum.default minimum.default
    addcmul.default addcdiv.default lerp.Scalar lerp.Tensor where.self where.ScalarSelf where.ScalarOther
    where.Scalar masked_fill.Scalar masked_fill.Tensor eq.Tensor eq.Scalar ne.Tensor ne.Scalar lt.Tensor
    lt.Scalar le.Tensor le.Scalar gt.Tensor gt.Scalar ge.Tensor ge.Scalar logical_and.default
    logical_or.default logical_not.default logical_xor.default bitwise_and.Tensor bitwise_or.Tensor
    bitwise_xor.Tensor bitwise_not.default isnan.default nan_to_num.default trunc.default fmod.Tensor
    fmod.Scalar log1p.default log2.default log10.default expm1.default exp2.default tan.default
    sinh.default cosh.default asin.default acos.default atan.default atan2.default asinh.default
    acosh.default atanh.default
"""
REDUCTIONS = """
    mean.default mean.dim sum.default sum.dim_IntList amax.default amin.default max.default max.dim
    min.default min.dim max.other min.other argmax.default argmin.default var.dim var.correction
    std.dim std.correction var_mean.correction logsumexp.default prod.dim_int cumsum.default topk.default
    sort.default sort.stable argsort.default
"""
SHAPES = """
    view.default reshape.default view_as.default reshape_as.default flatten.using_ints unflatten.int
    squeeze.default squeeze.dim squeeze.dims unsqueeze.default permute.default transpose.int t.default
    movedim.int movedim.intlist expand.default expand_as.default repeat.default repeat_interleave.self_int
    tile.default cat.default concat.default stack.default split.Tensor split.sizes
    split_with_sizes.default chunk.default unbind.int slice.Tensor select.int narrow.default index.Tensor
    index_select.default gather.default flip.default roll.default unfold.default tril.default triu.default
    meshgrid.indexing meshgrid.default contiguous.default clone.default alias.default detach.default
    detach_.default lift_fresh_copy.default to.dtype to.dtype_layout to.device type_as.default
    scatter.value scatter.src scatter_add.default scatter_reduce.two one_hot.default select_scatter.default
    slice_scatter.default fill.Scalar
    fill.Tensor logit.default
    _to_copy.default dropout.default feature_dropout.default sym_size.int sym_numel.default
"""
CREATION = """
    zeros.default ones.default full.default arange.default arange.start arange.start_step linspace.default
    scalar_tensor.default eye.default eye.m
"""
CREATION_LIKE = """
    zeros_like.default ones_like.default full_like.default new_zeros.default new_ones.default
    new_full.default
"""
ON_SIZES = """
    add sub mul floordiv mod truediv neg getitem
"""

CREATORS = frozenset(f"aten.{name}" for name in (CREATION + CREATION_LIKE).split())
"""What makes tensors whose sizes stand in the arguments."""

PYTHON = frozenset(f"operator.{name}" for name in ON_SIZES.split())

OPERATORS = (
    frozenset(
        f"aten.{name}"
        for group in (
            CONVOLUTIONS_AND_PRODUCTS,
            NORMALISATION,
            ACTIVATIONS,
            POOLING_AND_RESIZING,
            ARITHMETIC,
            REDUCTIONS,
            SHAPES,
        )
        for name in group.split()
    )
    | CREATORS
    | PYTHON
)


def name_of(target: Any) -> str:
    """``aten.conv2d.default`` or ``operator.mul``: how a program spells what a node calls."""
    if isinstance(target, torch._ops.OpOverload):
        return str(target)
    module = str(getattr(target, "__module__", "")).lstrip("_")
    return f"{module}.{getattr(target, '__name__', target)}"


def find_operator(name: str) -> Callable[..., Any] | None:
    """The function of a listed operator; None where this PyTorch has none of that name.

    ``name`` must be in `OPERATORS`.
    """
    if name in PYTHON:
        found: Callable[..., Any] = getattr(operator, name.removeprefix("operator."))
        return found
    _, packet, overload = name.split(".")
    return getattr(getattr(torch.ops.aten, packet, None), overload, None)
