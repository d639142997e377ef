"""The few functions of PyTorch that a run with ``--head engine`` calls, in NumPy.

Names, arguments and results are PyTorch's; float32 stays float32, and a view is a view. Two things of its own
are reproduced to the bit, as states and masks depend on them: random numbers (`random_numbers`), and
where a bilinear resize samples. What is not here is not called without PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from ocl_edge.tensors.numpy_tensor import Tensor, as_tensor
from ocl_edge.tensors.random_numbers import Generator
from ocl_edge.tensors.resize import UpsampleBilinear

__all__ = ["Generator", "Tensor"]

float32, float64 = np.dtype(np.float32), np.dtype(np.float64)
uint8, long, bool = np.dtype(np.uint8), np.dtype(np.int64), np.dtype(np.bool_)  # noqa: A001
Size = tuple[int, ...]


def device(name: str) -> str:
    return name


def tensor(values: Any, dtype: Any = None, device: Any = None) -> Tensor:  # noqa: ARG001
    array = np.array(values, dtype)
    return as_tensor(array.astype(np.float32) if dtype is None and array.dtype == np.float64 else array)


def from_numpy(array: np.ndarray[Any, Any]) -> Tensor:
    return as_tensor(array)


def _shape(sides: tuple[Any, ...]) -> Any:
    return sides[0] if len(sides) == 1 and isinstance(sides[0], Iterable) else sides


def empty(*sides: Any, dtype: Any = float32, device: Any = None) -> Tensor:  # noqa: ARG001
    return as_tensor(np.empty(_shape(sides), dtype))


def zeros(*sides: Any, dtype: Any = float32, device: Any = None) -> Tensor:  # noqa: ARG001
    return as_tensor(np.zeros(_shape(sides), dtype))


def ones_like(like: Tensor) -> Tensor:
    return as_tensor(np.ones_like(like))


def zeros_like(like: Tensor) -> Tensor:
    return as_tensor(np.zeros_like(like, order="C"))


def empty_like(like: Tensor) -> Tensor:
    return as_tensor(np.empty_like(like, order="C"))


def linspace(start: float, end: float, steps: int) -> Tensor:
    """From both ends towards the middle, as PyTorch rounds."""
    first, last = np.float32(start), np.float32(end)
    step = (last - first) / np.float32(max(steps - 1, 1))
    index = np.arange(steps)
    rising = first + step * index.astype(np.float32)
    falling = last - step * (steps - 1 - index).astype(np.float32)
    return as_tensor(np.where((index < steps // 2) | (steps == 1), rising, falling))


def rand(shape: Sequence[int], generator: Generator) -> Tensor:
    return as_tensor(generator.uniform(tuple(shape)))


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    return as_tensor(np.concatenate(tensors, dim))


def stack(tensors: Sequence[Tensor]) -> Tensor:
    return as_tensor(np.stack(tensors))


def split(whole: Tensor, size: int, dim: int) -> list[Tensor]:
    return [as_tensor(part) for part in np.split(whole, range(size, whole.shape[dim], size), dim)]


def where(condition: Tensor, yes: Any, no: Any) -> Tensor:
    return as_tensor(np.where(condition, yes, no).astype(np.result_type(yes, no), copy=False))


def lerp(start: Tensor, end: Tensor, weight: Any, out: Tensor | None = None) -> Tensor:
    result = start.lerp(end, weight)
    return result if out is None else out.copy_(result)


def addcmul(start: Tensor, first: Tensor, second: Tensor, out: Tensor) -> Tensor:
    np.multiply(first, second, out=out)
    np.add(out, start, out=out)
    return out


def rsqrt(values: Tensor) -> Tensor:
    return values.rsqrt()


def bincount(values: Tensor, minlength: int) -> Tensor:
    return as_tensor(np.bincount(values, minlength=minlength))


def log_softmax(logits: Tensor, dim: int) -> Tensor:
    below = logits - logits.max(dim, keepdims=True)
    return as_tensor(below - np.log(np.exp(below).sum(dim, keepdim=True)))


@contextmanager
def no_grad() -> Iterator[None]:
    """There are no gradients."""
    yield


def set_grad_enabled(enabled: Any) -> Any:  # noqa: ARG001
    return no_grad()


def set_num_threads(threads: int) -> None:
    """NumPy's functions that are called here have one."""


ops = SimpleNamespace(aten=SimpleNamespace(upsample_bilinear2d=UpsampleBilinear()))
