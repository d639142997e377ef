"""ONNX operators on single values, reductions, layout and indices, in PyTorch's terms; see `layers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ocl_edge_export.onnx_network.layers import Attributes, Numbers
from ocl_edge_export.onnx_network.unknown import UnknownOperatorError

MOST_VALUES = 1 << 28
"""Of a tensor that only sizes describe."""

DTYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64,
    9: torch.bool, 11: torch.float64,
}  # fmt: skip
"""By the numbers of ONNX's TensorProto.DataType."""


def _one(function: Callable[..., Any]) -> Callable[..., Any]:
    """An operator without attributes."""
    return lambda _, *inputs: function(*inputs)


def clip(a: Attributes, x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    least = a.get("min") if low is None else low
    most = a.get("max") if high is None else high
    return torch.clamp(x, least, most) if (least, most) != (None, None) else x


def gelu(a: Attributes, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=a.get("approximate", "none"))


def hard_sigmoid(a: Attributes, x: Tensor) -> Tensor:
    alpha, beta = float(a.get("alpha", 0.2)), float(a.get("beta", 0.5))
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(x * alpha + beta, 0, 1)


def divide(_: Attributes, x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def power(_: Attributes, x: Tensor, y: Tensor) -> Tensor:
    return torch.pow(x, y.to(x.dtype))


def softmax(a: Attributes, x: Tensor) -> Tensor:
    return F.softmax(x, int(a.get("axis", -1)))


def log_softmax(a: Attributes, x: Tensor) -> Tensor:
    return F.log_softmax(x, int(a.get("axis", -1)))


def cast(a: Attributes, x: Tensor) -> Tensor:
    if a["to"] not in DTYPES:
        raise UnknownOperatorError(f"a cast to type {a['to']}; write the file in float32")
    return x.to(DTYPES[a["to"]])


def cast_like(_: Attributes, x: Tensor, other: Tensor) -> Tensor:
    return x.to(other.dtype)


def concat(a: Attributes, *parts: Tensor) -> Tensor:
    axis = int(a["axis"])
    if axis % parts[0].dim():  # a constant that was written for one image is every image's
        batch = next((p.shape[0] for p in parts if p.shape[0] != 1), 1)
        parts = tuple(p.expand(batch, *p.shape[1:]) if p.shape[0] != batch else p for p in parts)
    return torch.cat(parts, axis)


def split(a: Attributes, x: Tensor, sizes: Numbers | None = None) -> tuple[Tensor, ...]:
    axis, outputs = int(a.get("axis", 0)), int(a["outputs"])
    lengths = list(sizes or a.get("split") or ())
    return torch.split(x, lengths or -(-int(x.shape[axis]) // outputs), axis)


def slice_along(a: Attributes, x: Tensor, *given: Numbers | None) -> Tensor:
    starts, ends = (given[0], given[1]) if given else (a["starts"], a["ends"])
    assert starts is not None
    assert ends is not None
    axes = (given[2] if len(given) > 2 else a.get("axes")) or range(len(starts))
    steps = (given[3] if len(given) > 3 else None) or [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        x = _sliced(x, int(axis), start, end, int(step))
    return x


def _sliced(x: Tensor, axis: int, start: Any, end: Any, step: int) -> Tensor:
    if step > 0:
        return torch.ops.aten.slice.Tensor(x, axis, start, end, step)  # type: ignore[no-any-return]
    length = int(x.shape[axis])
    places = list(range(length))[int(start) if start < length else None : _before(int(end), length) : step]
    if places == list(range(length))[::-1]:
        return x.flip(axis)
    return x.index_select(axis, torch.tensor(places, device=x.device))


def _before(end: int, length: int) -> int | None:
    """Where a slice backwards ends; beyond the beginning there is no number for it."""
    return None if end < -length else end


def gather(a: Attributes, x: Tensor, places: Tensor) -> Tensor:
    axis = int(a.get("axis", 0)) % x.dim()
    places = places.to(x.device) if places.device != x.device else places
    length = x.shape[axis]
    places = torch.where(places < 0, places + length, places)
    found = x.index_select(axis, places.reshape(-1).long())
    return found.reshape([*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]])


def gather_nd(a: Attributes, x: Tensor, places: Tensor) -> Tensor:
    if a.get("batch_dims", 0):
        raise UnknownOperatorError("GatherND with batch dimensions")
    return x[tuple(places.unbind(-1))]


def reshape(a: Attributes, x: Tensor, shape: Numbers) -> Tensor:
    sides = list(shape)
    if not a.get("allowzero", 0):
        sides = [x.shape[index] if side == 0 else side for index, side in enumerate(sides)]
    return x.reshape(sides)


def flatten(a: Attributes, x: Tensor) -> Tensor:
    axis = int(a.get("axis", 1))
    if axis == 1:
        return x.flatten(1)
    axis %= x.dim() + 1
    return x.reshape(int(torch.Size(x.shape[:axis]).numel()), -1)


def squeeze(a: Attributes, x: Tensor, axes: Numbers | None = None) -> Tensor:
    where = axes if axes is not None else a.get("axes")
    return x.squeeze() if where is None else x.squeeze(tuple(int(axis) for axis in where))


def unsqueeze(a: Attributes, x: Tensor, axes: Numbers | None = None) -> Tensor:
    where = [int(axis) for axis in (axes if axes is not None else a["axes"])]
    for axis in sorted(axis % (x.dim() + len(where)) for axis in where):
        x = x.unsqueeze(axis)
    return x


def transpose(a: Attributes, x: Tensor) -> Tensor:
    return x.permute(list(a.get("perm", reversed(range(x.dim())))))


def expand(_: Attributes, x: Tensor, shape: Numbers) -> Tensor:
    sides, own = list(shape), list(x.shape)
    sides = [1] * (len(own) - len(sides)) + sides
    own = [1] * (len(sides) - len(own)) + own
    sides = [o if isinstance(s, int) and s == 1 else s for s, o in zip(sides, own, strict=True)]
    _check_size(sides)
    return x.expand(sides)


def tile(_: Attributes, x: Tensor, repeats: Numbers) -> Tensor:
    _check_size([side * times for side, times in zip(x.shape, repeats, strict=True)])
    return x.repeat(list(repeats))


def constant_of_shape(a: Attributes, shape: Numbers) -> Tensor:
    value = a.get("value")
    _check_size(shape)
    if value is None:
        return torch.zeros(list(shape))
    return torch.full(list(shape), value.item(), dtype=value.dtype)


def arange(_: Attributes, start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    _check_size([(end.item() - start.item()) / step.item()])
    return torch.arange(start.item(), end.item(), step.item(), dtype=start.dtype)


def _check_size(sides: Numbers) -> None:
    count = 1.0
    for side in sides:
        count *= float(side) if isinstance(side, int | float) else 1
    if count > MOST_VALUES:
        raise UnknownOperatorError(f"a tensor of {list(sides)}, larger than any image's")


def pad(a: Attributes, x: Tensor, *given: Any) -> Tensor:
    pads = list((given[0] if given else None) or a["pads"])
    value = given[1] if len(given) > 1 else a.get("value", 0.0)
    axes = list(given[2]) if len(given) > 2 and given[2] is not None else list(range(x.dim()))
    before, after = [0] * x.dim(), [0] * x.dim()
    for index, axis in enumerate(axes):
        before[axis], after[axis] = int(pads[index]), int(pads[index + len(axes)])
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}.get(a.get("mode", "constant"))
    if mode is None:
        raise UnknownOperatorError(f"padding of mode {a['mode']}")
    sides = [side for pair in zip(reversed(before), reversed(after), strict=True) for side in pair]
    while sides and sides[-2:] == [0, 0]:
        sides = sides[:-2]
    if not sides:
        return x
    return F.pad(x, sides, mode, value or 0.0) if mode == "constant" else F.pad(x, sides, mode)


def reduce_by(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def reduced(a: Attributes, x: Tensor, axes: Numbers | None = None) -> Tensor:
        where = axes if axes is not None else a.get("axes")
        if not where and a.get("noop_with_empty_axes", 0):
            return x
        dims = [int(axis) for axis in where] if where else list(range(x.dim()))
        return function(x, dims, keepdim=bool(a.get("keepdims", 1)))

    return reduced


def arg_by(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def reduced(a: Attributes, x: Tensor) -> Tensor:
        if a.get("select_last_index", 0):
            raise UnknownOperatorError("the last of several largest values")
        result: Tensor = function(x, int(a.get("axis", 0)), keepdim=bool(a.get("keepdims", 1)))
        return result

    return reduced


def _l2(x: Tensor, dims: list[int], keepdim: bool) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, 2, dims, keepdim)
    return norm


def _product(x: Tensor, dims: list[int], keepdim: bool) -> Tensor:
    for dim in sorted((dim % x.dim() for dim in dims), reverse=True):
        x = x.prod(dim, keepdim=keepdim)
    return x


def _mean_of(*values: Tensor) -> Tensor:
    return _sum_of(*values) / len(values)


def _sum_of(*values: Tensor) -> Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def modulo(a: Attributes, x: Tensor, y: Tensor) -> Tensor:
    return torch.fmod(x, y) if a.get("fmod", 0) else torch.remainder(x, y)


def einsum(a: Attributes, *values: Tensor) -> Tensor:
    return torch.einsum(a["equation"], *values)


ARITHMETIC: dict[str, Callable[..., Any]] = {
    "Abs": _one(torch.abs),
    "Add": _one(torch.add),
    "And": _one(torch.logical_and),
    "ArgMax": arg_by(torch.argmax),
    "ArgMin": arg_by(torch.argmin),
    "Cast": cast,
    "CastLike": cast_like,
    "Ceil": _one(torch.ceil),
    "Clip": clip,
    "Concat": concat,
    "ConstantOfShape": constant_of_shape,
    "Cos": _one(torch.cos),
    "Div": divide,
    "Dropout": lambda _, x, *_given: x,
    "Einsum": einsum,
    "Elu": lambda a, x: F.elu(x, float(a.get("alpha", 1.0))),
    "Equal": _one(torch.eq),
    "Erf": _one(torch.erf),
    "Exp": _one(torch.exp),
    "Expand": expand,
    "Flatten": flatten,
    "Floor": _one(torch.floor),
    "Gather": gather,
    "GatherND": gather_nd,
    "Gelu": gelu,
    "Greater": _one(torch.gt),
    "GreaterOrEqual": _one(torch.ge),
    "HardSigmoid": hard_sigmoid,
    "HardSwish": _one(F.hardswish),
    "Identity": _one(lambda x: x),
    "LeakyRelu": lambda a, x: F.leaky_relu(x, float(a.get("alpha", 0.01))),
    "Less": _one(torch.lt),
    "LessOrEqual": _one(torch.le),
    "Log": _one(torch.log),
    "LogSoftmax": log_softmax,
    "MatMul": _one(torch.matmul),
    "Max": _one(lambda *v: v[0] if len(v) == 1 else torch.maximum(v[0], v[1])),
    "Mean": _one(_mean_of),
    "Min": _one(lambda *v: v[0] if len(v) == 1 else torch.minimum(v[0], v[1])),
    "Mish": _one(F.mish),
    "Mod": modulo,
    "Mul": _one(torch.mul),
    "Neg": _one(torch.neg),
    "Not": _one(torch.logical_not),
    "Or": _one(torch.logical_or),
    "Pad": pad,
    "Pow": power,
    "Range": arange,
    "Reciprocal": _one(torch.reciprocal),
    "ReduceL2": reduce_by(_l2),
    "ReduceMax": reduce_by(torch.amax),
    "ReduceMean": reduce_by(torch.mean),
    "ReduceMin": reduce_by(torch.amin),
    "ReduceProd": reduce_by(_product),
    "ReduceSum": reduce_by(torch.sum),
    "Relu": _one(F.relu),
    "Reshape": reshape,
    "Round": _one(torch.round),
    "Selu": _one(F.selu),
    "Sigmoid": _one(torch.sigmoid),
    "Sign": _one(torch.sign),
    "Sin": _one(torch.sin),
    "Slice": slice_along,
    "Softmax": softmax,
    "Softplus": _one(F.softplus),
    "Split": split,
    "Sqrt": _one(torch.sqrt),
    "Squeeze": squeeze,
    "Sub": _one(torch.sub),
    "Sum": _one(_sum_of),
    "Tanh": _one(torch.tanh),
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Where": _one(torch.where),
}
