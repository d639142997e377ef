"""Tensors out of safetensors files: header and values are checked before they are believed."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ocl_edge.given_files import open_given, reason_of
from ocl_edge.tensors import Tensor, torch, torch_is_installed

MOST_HEADER_BYTES = 16 << 20


def read_tensors(path: Path, names: Collection[str] | None = None) -> dict[str, Tensor]:
    """Every tensor of a file by its name, or those of some names that are there.

    Raises:
        ValueError: it cannot be read, is damaged, or has a header larger than `MOST_HEADER_BYTES`.
    """
    return read_tensors_and_metadata(path, names)[0]


def read_tensors_and_metadata(
    path: Path, names: Collection[str] | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """As `read_tensors`, and what the header says beside them.

    Raises:
        ValueError: as `read_tensors`.
        FileNotFoundError: there is no such file.
    """
    try:
        _check_header(path)
        with safe_open(path, "pt" if torch_is_installed() else "np") as file:
            opened: Any = file
            held = [name for name in opened.keys() if names is None or name in names]  # noqa: SIM118
            tensors = {name: opened.get_tensor(name) for name in held}
            metadata = opened.metadata() or {}
        if not torch_is_installed():
            tensors = {name: torch.from_numpy(array) for name, array in tensors.items()}
        return tensors, metadata
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(reason_of(error)) from error
    except (SafetensorError, RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error


def parse_tensors(content: bytes) -> dict[str, Tensor]:
    """As `read_tensors`, of the bytes of a file.

    Raises:
        ValueError: they are damaged.
    """
    try:
        if torch_is_installed():
            from safetensors.torch import load

            return load(content)
        from safetensors.numpy import load as load_arrays

        return {name: torch.from_numpy(array) for name, array in load_arrays(content).items()}
    except (SafetensorError, RuntimeError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(str(error)) from error


def serialise_tensors(tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> bytes:
    """The bytes of a safetensors file. Tensors are contiguous."""
    if torch_is_installed():
        from safetensors.torch import save

        return save(dict(tensors), metadata)
    from safetensors.numpy import save as save_arrays

    return save_arrays({name: tensor.numpy() for name, tensor in tensors.items()}, metadata)


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
