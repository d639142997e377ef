"""ONNX operators with weights, pooling, normalisation and resizing, in PyTorch's terms.

Every function takes the node's attributes, then its inputs; None is an input that is left out. Inputs that
say shapes (`network.HOST_INPUTS`) are lists of numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ocl_edge_export.onnx_network.unknown import UnknownOperatorError

Attributes = dict[str, Any]
Numbers = Sequence[Any]

CONVOLUTIONS = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
TRANSPOSED = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}


def conv(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    strides, dilations = _windows(a, "strides", x), _windows(a, "dilations", x)
    x, pads = _padded(a, x, list(weight.shape[2:]), strides, dilations, 0.0)
    return CONVOLUTIONS[x.dim()](x, weight, bias, strides, pads, dilations, int(a.get("group", 1)))


def conv_transpose(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if a.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or "output_shape" in a:
        raise UnknownOperatorError("padding that the output's size decides")
    rank = x.dim() - 2
    pads = list(a.get("pads", [0] * 2 * rank))
    if pads[:rank] != pads[rank:]:
        raise UnknownOperatorError(f"padding {pads}, other at the end than at the start")
    strides, dilations = _windows(a, "strides", x), _windows(a, "dilations", x)
    added = list(a.get("output_padding", [0] * rank))
    group = int(a.get("group", 1))
    return TRANSPOSED[x.dim()](x, weight, bias, strides, pads[:rank], added, group, dilations)


def max_pool(a: Attributes, x: Tensor) -> Tensor:
    strides, dilations = _windows(a, "strides", x), _windows(a, "dilations", x)
    x, pads = _padded(a, x, list(a["kernel_shape"]), strides, dilations, -torch.inf)
    ceil = bool(a.get("ceil_mode", 0))
    return F.max_pool2d(x, list(a["kernel_shape"]), strides, pads, dilations, ceil_mode=ceil)


def average_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel, strides = list(a["kernel_shape"]), _windows(a, "strides", x)
    if any(step != 1 for step in _windows(a, "dilations", x)):
        raise UnknownOperatorError("dilated average pooling")
    counted = bool(a.get("count_include_pad", 0))
    same, pads = _padded(a, x, kernel, strides, [1] * len(kernel), 0.0)
    if same is not x and not counted:
        raise UnknownOperatorError("padding that is other at the end than at the start, and not counted")
    return F.avg_pool2d(same, kernel, strides, pads, bool(a.get("ceil_mode", 0)), counted)


def global_average_pool(_: Attributes, x: Tensor) -> Tensor:
    return x.mean(list(range(2, x.dim())), keepdim=True)


def global_max_pool(_: Attributes, x: Tensor) -> Tensor:
    return x.amax(list(range(2, x.dim())), keepdim=True)


def batch_normalization(
    a: Attributes, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor
) -> Tensor:
    return F.batch_norm(x, mean, var, weight, bias, False, 0.1, float(a.get("epsilon", 1e-5)))


def instance_normalization(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.instance_norm(x, None, None, weight, bias, True, 0.1, float(a.get("epsilon", 1e-5)))


def group_normalization(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    groups, channels = int(a["num_groups"]), int(x.shape[1])
    if weight.numel() != channels:  # until operator set 20: one number a group
        weight, bias = (v.repeat_interleave(channels // groups) for v in (weight, bias))
    return F.group_norm(x, groups, weight, bias, float(a.get("epsilon", 1e-5)))


def layer_normalization(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    axis = int(a.get("axis", -1)) % x.dim()
    shape = [int(side) for side in x.shape[axis:]]
    bias = None if bias is None else bias.reshape(shape)
    return F.layer_norm(x, shape, weight.reshape(shape), bias, float(a.get("epsilon", 1e-5)))


def gemm(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x = x.t() if a.get("transA", 0) else x
    weight = weight if a.get("transB", 0) else weight.t()
    product = (
        F.linear(x, weight) * float(a.get("alpha", 1.0)) if a.get("alpha", 1.0) != 1 else F.linear(x, weight)
    )
    if bias is None:
        return product
    return product + (bias if a.get("beta", 1.0) == 1 else bias * float(a["beta"]))


def p_relu(_: Attributes, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


def resize(a: Attributes, x: Tensor, *how: Numbers | None) -> Tensor:
    """``how``: region, scales, sizes. Until operator set 10: scales alone."""
    _, scales, sizes = ((*how, None, None) if len(how) > 1 else (None, *how, None, None))[:3]
    sizes = _sizes_after(a, x, scales, sizes)
    mode, place = a.get("mode", "nearest"), _place(a, len(how))
    if mode == "nearest":
        rounding = a.get("nearest_mode", "round_prefer_floor" if len(how) > 1 else "floor")
        if place == "asymmetric" and rounding == "floor":
            return F.interpolate(x, sizes, mode="nearest")
        if place in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round"):
            return F.interpolate(x, sizes, mode="nearest-exact")
        raise UnknownOperatorError(f"nearest resize with {place} and {rounding}")
    if place not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise UnknownOperatorError(f"{mode} resize with {place}")
    modes = {"linear": "bilinear", "cubic": "bicubic"}
    if (
        mode not in modes
        or x.dim() != 4
        or (mode == "cubic" and float(a.get("cubic_coeff_a", -0.75)) != -0.75)
    ):
        raise UnknownOperatorError(f"{mode} resize of {x.dim()} dimensions")
    antialias = bool(a.get("antialias", 0))
    return F.interpolate(
        x, sizes, mode=modes[mode], align_corners=place == "align_corners", antialias=antialias
    )


def _place(a: Attributes, inputs: int) -> str:
    usual = "half_pixel" if inputs > 1 else "asymmetric"
    return str(a.get("coordinate_transformation_mode", usual))


def _sizes_after(a: Attributes, x: Tensor, scales: Numbers | None, sizes: Numbers | None) -> list[int]:
    """Height and width afterwards."""
    if a.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise UnknownOperatorError("resize that keeps proportions")
    if not sizes:
        scales = list(scales or a.get("scales") or ())
        axes = [axis % x.dim() for axis in a.get("axes", range(x.dim()))]
        by_axis = dict(zip(axes, scales, strict=True))
        if by_axis.get(0, 1) != 1 or by_axis.get(1, 1) != 1:
            raise UnknownOperatorError(f"resize of batch or channels ({scales})")
        return [int(x.shape[axis] * by_axis.get(axis, 1)) for axis in (2, 3)]
    axes = [axis % x.dim() for axis in a.get("axes", range(x.dim()))]
    after = dict(zip(axes, sizes, strict=True))
    return [int(after.get(axis, x.shape[axis])) for axis in (2, 3)]


def pixel_shuffle(a: Attributes, x: Tensor) -> Tensor:
    size = int(a["blocksize"])
    if a.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, size)
    _, c, h, w = x.shape
    x = x.reshape(-1, size, size, c // size**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(-1, c // size**2, h * size, w * size)


def space_to_depth(a: Attributes, x: Tensor) -> Tensor:
    size = int(a["blocksize"])
    _, c, h, w = x.shape
    x = x.reshape(-1, c, h // size, size, w // size, size).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(-1, c * size**2, h // size, w // size)


def _windows(a: Attributes, name: str, x: Tensor) -> list[int]:
    return [int(value) for value in a.get(name, [1] * (x.dim() - 2))]


def _padded(
    a: Attributes, x: Tensor, kernel: list[int], strides: list[int], dilations: list[int], value: float
) -> tuple[Tensor, list[int]]:
    """The input, and the padding that the layer adds itself; what differs between the sides is added here."""
    kind, rank = a.get("auto_pad", "NOTSET"), x.dim() - 2
    if kind in ("SAME_UPPER", "SAME_LOWER"):
        before, after = [], []
        for side, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
            total = max(0, (-(-int(side) // s) - 1) * s + (k - 1) * d + 1 - int(side))
            small, large = total // 2, total - total // 2
            before.append(small if kind == "SAME_UPPER" else large)
            after.append(large if kind == "SAME_UPPER" else small)
    else:
        pads = [int(p) for p in a.get("pads", [0] * 2 * rank)]
        before, after = pads[:rank], pads[rank:]
    if before == after:
        return x, before
    sides = [p for pair in zip(reversed(before), reversed(after), strict=True) for p in pair]
    return F.pad(x, sides, value=value), [0] * rank


LAYERS: dict[str, Callable[..., Any]] = {
    "AveragePool": average_pool,
    "BatchNormalization": batch_normalization,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "DepthToSpace": pixel_shuffle,
    "Gemm": gemm,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LayerNormalization": layer_normalization,
    "MaxPool": max_pool,
    "PRelu": p_relu,
    "Resize": resize,
    "SpaceToDepth": space_to_depth,
    "Upsample": resize,
}
