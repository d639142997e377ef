"""Reads a form's graph with its weights, which lie in a file beside it.

onnx's own loader refuses that file if it has several names on the disk, as the files of a fleet's versions
have, and of every directory that was copied by hard links.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto
from onnx.external_data_helper import ExternalDataInfo

from ocl_edge.errors import BundleError


def load_graph(file: Path) -> onnx.ModelProto:
    """The graph, and every weight in it.

    Raises:
        BundleError: it says that weights lie in another directory, or where its file has no such bytes.
    """
    model = onnx.load(file, load_external_data=False)
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.raw_data = _bytes_of(ExternalDataInfo(tensor), file)
            tensor.ClearField("external_data")
            tensor.data_location = TensorProto.DEFAULT
    return model


def _bytes_of(place: ExternalDataInfo, file: Path) -> bytes:
    if Path(place.location).name != place.location:
        raise BundleError(f"{file.name} has weights in {place.location}, expected a file beside it")
    weights = file.parent / place.location
    length = int(place.length or 0)
    try:
        with weights.open("rb") as opened:
            opened.seek(int(place.offset or 0))
            content = opened.read(length) if length else opened.read()
    except OSError as error:
        raise BundleError(f"{weights} cannot be read: {error.strerror}") from error
    if length and len(content) != length:
        raise BundleError(f"{weights} ends at {len(content)} of {length} bytes that {file.name} needs")
    return content
