"""Weights of an ONNX graph that lie in a file beside it, as bytes of the graph.

onnx's own loader refuses that file if it has several names on the disk, as the files of a fleet's versions
have, and of every directory that was copied by hard links.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto

from ocl_edge.errors import BundleError


def load_graph(file: Path) -> onnx.ModelProto:
    """A form's graph, and every weight in it.

    Raises:
        BundleError: the weights are not beside it, or end too early.
    """
    model = onnx.load(file, load_external_data=False)
    try:
        for tensor in model.graph.initializer:
            bring_inside(tensor, file, links=True)
    except ValueError as error:
        raise BundleError(f"{file}: {error}") from error
    return model


def bring_inside(tensor: TensorProto, path: Path, links: bool = False) -> None:
    """Read what lies in another file, which must be one beside the graph's.

    Args:
        tensor: of the graph; takes its bytes. One that lies inside stays as it is.
        path: of the graph.
        links: whether that file may be a symbolic link.

    Raises:
        ValueError: there is no such file, or not so many bytes in it.
    """
    if tensor.data_location != TensorProto.EXTERNAL:
        return
    place = {entry.key: entry.value for entry in tensor.external_data}
    name = place.get("location", "")
    file = path.parent / name
    if not name or Path(name).name != name or (file.is_symlink() and not links) or not file.is_file():
        raise ValueError(f"the tensor {tensor.name} lies in {name!r}, which is no file beside it")
    try:
        start, length = int(place.get("offset", "0")), int(place.get("length", str(file.stat().st_size)))
        if min(start, length) < 0 or start + length > file.stat().st_size:
            raise ValueError(f"bytes {start} to {start + length} of {file.stat().st_size}")
        with file.open("rb") as opened:
            opened.seek(start)
            tensor.raw_data = opened.read(length)
    except (OSError, ValueError) as error:
        raise ValueError(f"the tensor {tensor.name} cannot be read from {name}: {error}") from error
    tensor.data_location = TensorProto.DEFAULT
    tensor.ClearField("external_data")
