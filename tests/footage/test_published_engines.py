"""Engines of the published network, really built by TensorRT-RTX, as docs/hardware.md says."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge.network.form_names import FORMS, HEAD_GRAPHS
from ocl_edge_export.engines.build import build_engines
from ocl_edge_export.engines.process import run_worker
from ocl_edge_export.engines.request import BuildRequest
from ocl_edge_export.precision import to_sixteen_bits

pytestmark = pytest.mark.footage
TARGETS = ("sm86", "sm89")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_form_compiles_for_ampere_and_ada(published_bundle: Bundle, precision: str) -> None:
    request = BuildRequest("tensorrt-rtx", targets=TARGETS, precision=precision)  # type: ignore[arg-type]
    engines = build_engines(published_bundle, request)
    assert [engine.engine.record.key.form for engine in engines] == list(FORMS)
    for engine in engines:
        record = engine.engine.record
        assert record.key.compute_capabilities == TARGETS
        assert record.bytes == engine.engine.path.stat().st_size > 10**6
        if precision == "fp16":
            assert record.parity is not None
            assert record.parity["class_disagreement"] < 0.005


def test_its_head_graphs_compile_and_stay_float32(published_bundle: Bundle) -> None:
    request = BuildRequest("tensorrt-rtx", HEAD_GRAPHS, TARGETS, precision="fp16")
    for built in build_engines(published_bundle, request):
        assert built.engine.record.key.precision == "fp32"
        assert built.engine.record.bytes > 10**5


def test_its_head_step_compiles_in_sixteen_bits_too(published_bundle: Bundle, tmp_path: Path) -> None:
    step = onnx.load(published_bundle.file("head_step.onnx"))
    onnx.save(to_sixteen_bits(step, "fp16"), tmp_path / "step.onnx")
    free = {
        which: [2, 10, *sides] for which, sides in (("min", (1, 1)), ("opt", (48, 64)), ("max", (192, 256)))
    }
    fixed = {"shapes": {"features": free}, "targets": list(TARGETS), "workspace_mib": None, "tf32": False}
    job = {"job": "build", "flavour": "tensorrt-rtx", "onnx": str(tmp_path / "step.onnx"), **fixed}
    assert run_worker({**job, "engine": str(tmp_path / "step.engine")}, 300)["bytes"] > 10**5
