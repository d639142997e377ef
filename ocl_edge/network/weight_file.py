"""The one file that holds a bundle's tensors: safetensors, laid out so that ONNX files can point into it.

safetensors is a header and the bare bytes of every tensor; ONNX calls a file with such bytes
external data. So each weight is stored once, and the programs find it by name, the ONNX
forms by its place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

ALIGNMENT_BYTES = 64
IN_SAFETENSORS = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_weights(tensors: Mapping[str, Tensor], path: Path) -> dict[str, int]:
    """Write tensors as safetensors, those first that can all start at a multiple of `ALIGNMENT_BYTES`.

    The format allows no gaps, so a tensor of another length would move all that follow it.

    Returns:
        sha256 of each tensor's bytes -> where they begin in the file.
    """
    order = sorted(tensors, key=lambda name: (tensors[name].nbytes % ALIGNMENT_BYTES != 0, name))
    header: dict[str, object] = {}
    end = 0
    for name in order:
        begin, end = end, end + tensors[name].nbytes
        header[name] = {
            "dtype": IN_SAFETENSORS[tensors[name].dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT_BYTES)
    offsets: dict[str, int] = {}
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            content = bytes_of(tensors[name])
            offsets.setdefault(sha256(content), file.tell())
            file.write(content)
    return offsets


def bytes_of(tensor: Tensor) -> bytes:
    """The elements in row-major order, little-endian."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
