"""A form's graph is read with its weights, whatever names their file has on the disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto
from onnx.external_data_helper import set_external_data

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BundleError
from ocl_edge.network.form_names import WEIGHT_FILE
from ocl_edge_export.outside_weights import load_graph

GRAPH = "backbone.measured.onnx"


@pytest.fixture
def files(small_bundle: Bundle, tmp_path: Path) -> Path:
    """A copy that has one name a file, as onnx wants it."""
    return Path(shutil.copytree(small_bundle.path, tmp_path / "files"))


def test_the_graph_is_what_onnx_itself_reads(files: Path) -> None:
    assert load_graph(files / GRAPH).SerializeToString() == onnx.load(files / GRAPH).SerializeToString()


def test_a_file_of_several_names_is_read(files: Path, tmp_path: Path) -> None:
    expected = load_graph(files / GRAPH)
    os.link(files / WEIGHT_FILE, tmp_path / "another name")
    with pytest.raises(onnx.checker.ValidationError, match="hard links"):
        onnx.load(files / GRAPH)  # once it reads it, this module can go
    assert load_graph(files / GRAPH) == expected


def test_weights_that_end_too_early_are_named(files: Path) -> None:
    with (files / WEIGHT_FILE).open("r+b") as weights:
        weights.truncate(weights.seek(0, 2) // 2)
    with pytest.raises(
        BundleError,
        match=rf"{GRAPH}: the tensor .+ cannot be read from {WEIGHT_FILE}: bytes \d+ to \d+ of \d+$",
    ):
        load_graph(files / GRAPH)
    (files / WEIGHT_FILE).unlink()
    with pytest.raises(
        BundleError, match=rf"{GRAPH}: the tensor .+ lies in '{WEIGHT_FILE}', which is no file"
    ):
        load_graph(files / GRAPH)


@pytest.mark.parametrize("place", ["../secret", "/etc/hostname", "inner/weights"])
def test_weights_elsewhere_are_refused(files: Path, place: str) -> None:
    model = onnx.load(files / GRAPH, load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL)
    tensor.raw_data = b"four"
    set_external_data(tensor, place, offset=0, length=4)
    tensor.ClearField("raw_data")
    (files / GRAPH).write_bytes(model.SerializeToString())
    with pytest.raises(
        BundleError, match=f"{GRAPH}: the tensor .+ lies in '{place}', which is no file beside it"
    ):
        load_graph(files / GRAPH)
