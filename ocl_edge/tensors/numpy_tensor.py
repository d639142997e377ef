"""A NumPy array with the methods of a PyTorch tensor that `in_numpy` needs."""

from __future__ import annotations

from typing import Any

import numpy as np


class Tensor(np.ndarray[Any, Any]):
    """An array that a run handles like a tensor: always on the CPU, never with gradients."""

    is_cuda = False
    device = "cpu"

    def dim(self) -> int:
        return self.ndim

    def numel(self) -> int:
        return self.size

    def data_ptr(self) -> int:
        return int(self.ctypes.data)

    def numpy(self) -> np.ndarray[Any, Any]:
        return np.asarray(self)

    def is_contiguous(self) -> bool:
        return bool(self.flags.c_contiguous)

    def contiguous(self) -> Tensor:
        return as_tensor(np.ascontiguousarray(self).reshape(self.shape))

    def clone(self) -> Tensor:
        return as_tensor(np.array(self, order="C"))

    def cpu(self) -> Tensor:
        return self

    def detach(self) -> Tensor:
        return self

    def to(self, what: Any, copy: bool = False) -> Tensor:
        """To a dtype, or to where it is already."""
        kept = self if isinstance(what, str) else as_tensor(self.astype(what, copy=False))
        return kept.clone() if copy else kept

    def float(self) -> Tensor:
        return as_tensor(self.astype(np.float32))

    def view(self, *shape: Any) -> Any:  # type: ignore[override]
        """Another shape, or the same bytes as another dtype."""
        if shape and isinstance(shape[0], int):
            return self.reshape(shape)
        return super().view(*shape)

    def transpose(self, *axes: Any) -> Any:
        """Two axes change places."""
        return self.swapaxes(*axes) if len(axes) == 2 else super().transpose(*axes)

    def permute(self, *axes: int) -> Tensor:
        return as_tensor(super().transpose(axes))

    def flip(self, dim: int) -> Tensor:
        return as_tensor(np.flip(self, dim).copy())

    def repeat(self, times: Any, axis: Any = None) -> Tensor:
        return as_tensor(np.tile(self, times) if axis is None else super().repeat(times, axis))

    def repeat_interleave(self, times: Any) -> Tensor:
        return as_tensor(np.repeat(np.asarray(self), np.asarray(times)))

    def mean(self, dim: Any = None, keepdim: bool = False, **_: Any) -> Any:  # type: ignore[override]
        return np.ndarray.mean(self, axis=dim, keepdims=keepdim)

    def sum(self, dim: Any = None, keepdim: bool = False, **options: Any) -> Any:  # type: ignore[override]
        options = {"axis": dim, "keepdims": keepdim} | options
        return np.ndarray.sum(self, **options)

    def clamp(self, min: Any) -> Tensor:  # noqa: A002
        return as_tensor(np.maximum(self, min))

    def abs(self) -> Tensor:
        return as_tensor(np.abs(self))

    def log(self) -> Tensor:
        return as_tensor(np.log(self))

    def exp(self) -> Tensor:
        return as_tensor(np.exp(self))

    def square(self) -> Tensor:
        return as_tensor(np.square(self))

    def rsqrt(self) -> Tensor:
        return as_tensor(1 / np.sqrt(self))

    def isfinite(self) -> Tensor:
        return as_tensor(np.isfinite(self))

    def lerp(self, end: Tensor, weight: Any) -> Tensor:
        """As PyTorch rounds it: from the nearer end."""
        share, way = np.asarray(weight, np.float32), end - self
        return as_tensor(np.where(share < 0.5, self + share * way, end - way * (1 - share)))

    def copy_(self, other: Any) -> Tensor:
        np.copyto(self, other, casting="unsafe")
        return self

    def fill_(self, value: Any) -> Tensor:
        self.fill(value)
        return self

    def zero_(self) -> Tensor:
        return self.fill_(0)

    def mul_(self, other: Any) -> Tensor:
        self *= other
        return self


def as_tensor(array: Any) -> Tensor:
    """The same memory, as a tensor."""
    return np.asarray(array).view(Tensor)
