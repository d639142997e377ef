"""Tensors out of safetensors files: header and values are checked before they are believed."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ocl_edge.given_files import open_given, reason_of

MOST_HEADER_BYTES = 16 << 20


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file by its name.

    Raises:
        ValueError: it cannot be read, is damaged, or has a header larger than `MOST_HEADER_BYTES`.
    """
    return read_tensors_and_metadata(path)[0]


def read_tensors_and_metadata(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Every tensor of a file by its name, and what the header says beside them.

    Raises:
        ValueError: as `read_tensors`.
        FileNotFoundError: there is no such file.
    """
    try:
        _check_header(path)
        with safe_open(path, "pt") as file:
            opened: Any = file
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            return tensors, opened.metadata() or {}
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(reason_of(error)) from error
    except (SafetensorError, RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


def check_tensor(name: str, tensor: Tensor | None, shape: tuple[int, ...]) -> None:
    """Raises `ValueError` unless the tensor is float32 of this shape, with finite numbers only."""
    if tensor is None:
        raise ValueError(f"{name} is missing")
    if tensor.dtype != torch.float32 or tuple(tensor.shape) != tuple(shape):
        found = f"{tensor.dtype} {list(tensor.shape)}"
        raise ValueError(f"{name}: expected torch.float32 {list(shape)}, got {found}")
    if not bool(tensor.isfinite().all()):
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinite ones")


def _check_header(path: Path) -> None:
    with open_given(path) as file:
        start = file.read(8)
    if len(start) < 8:
        raise ValueError("it is cut off before its header")
    (length,) = struct.unpack("<Q", start)
    if length > MOST_HEADER_BYTES:
        raise ValueError(f"its header claims {length:,} bytes, at most {MOST_HEADER_BYTES:,} are read")
