"""PyTorch's bilinear resize, in NumPy: rows first, then columns, at its positions and with its weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from ocl_edge.tensors.numpy_tensor import Tensor, as_tensor

Array = np.ndarray[Any, Any]


def sampled(inputs: int, outputs: int, align_corners: bool) -> tuple[Array, Array, Array]:
    """Where each output samples: the input before it, the one after it, and the weight of that, float32."""
    every = np.arange(outputs, dtype=np.float32)
    if align_corners:
        place = every * (np.float32(inputs - 1) / np.float32(outputs - 1) if outputs > 1 else np.float32(0))
    else:
        scale = np.float32(inputs) / np.float32(outputs)
        place = np.maximum(scale * (every + np.float32(0.5)) - np.float32(0.5), np.float32(0))
    low = np.minimum(place.astype(np.intp), inputs - 1)
    high = np.minimum(low + 1, inputs - 1)
    far = np.minimum(np.maximum(place - low.astype(np.float32), 0), 1).astype(np.float32)
    return low, high, far


class UpsampleBilinear:
    """``aten.upsample_bilinear2d``: float32 [N, C, h, w] -> [N, C, H, W], or into a given buffer."""

    def __call__(self, images: Tensor, size: Any, align_corners: bool, *_: None) -> Tensor:
        above, below, down = sampled(images.shape[2], size[0], align_corners)
        left, right, across = sampled(images.shape[3], size[1], align_corners)
        array, down = np.asarray(images), down[:, None]
        rows = array[:, :, above] * (1 - down) + array[:, :, below] * down
        return as_tensor(rows[..., left] * (1 - across) + rows[..., right] * across)

    def out(self, images: Tensor, size: Any, align_corners: bool, *_: None, out: Tensor) -> Tensor:
        return out.copy_(self(images, size, align_corners))
