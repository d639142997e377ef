"""A program as it is on disk: fields, names, dtypes."""

from __future__ import annotations

import re
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from ocl_edge.network.weight_file import IN_SAFETENSORS

VERSION = 1
MOST_BYTES = 64 * 2**20
"""Of a program's text: FCN-ResNet101 has 0.1 MB."""

NODE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
TENSOR_NAME = re.compile(r"[A-Za-z0-9_+ -]{1,100}(\.[A-Za-z0-9_+ -]{1,100}){0,49}")
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in IN_SAFETENSORS}
FORMATS = {
    f"torch.{name}": getattr(torch, name)
    for name in ("contiguous_format", "preserve_format", "channels_last", "strided")
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoredTensor(_Strict):
    """What the weight file must hold under a name; ``parameter``: it can be trained."""

    dtype: str
    shape: tuple[int, ...]
    parameter: bool = False


class StoredNode(_Strict):
    """One call: an operator's name and its arguments, see `_encoded`."""

    name: str
    operator: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any] = Field(default_factory=dict)


class StoredProgram(_Strict):
    """A program as it is on disk. Parameters stand in the order in which a module lists them."""

    version: int = VERSION
    inputs: tuple[str, ...]
    tensors: dict[str, StoredTensor]
    nodes: tuple[StoredNode, ...]
    outputs: tuple[str, ...]
