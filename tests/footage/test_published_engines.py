"""Engines of the published network, really built by TensorRT-RTX, as docs/hardware.md says."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocl_edge.bundle import Bundle
from ocl_edge.forms import FORMS
from ocl_edge.programs import load_program
from ocl_edge_export.engines.build import build_engines
from ocl_edge_export.engines.process import run_worker
from ocl_edge_export.engines.request import BuildRequest
from ocl_edge_export.head_step import build_head_step, describe_head

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


def test_its_head_step_compiles(published_bundle: Bundle, tmp_path: Path) -> None:
    head = describe_head(load_program(published_bundle.file("head.pt2")))
    assert (head.classes, head.features, head.kernel) == (20, 10, (1, 1))
    (tmp_path / "step.onnx").write_bytes(build_head_step(head, 192, 256).SerializeToString())
    fixed = {"shapes": {}, "targets": list(TARGETS), "workspace_mib": None, "tf32": False}
    job = {"job": "build", "flavour": "tensorrt-rtx", "onnx": str(tmp_path / "step.onnx"), **fixed}
    done = run_worker({**job, "engine": str(tmp_path / "step.engine")}, 300)
    assert done["bytes"] > 1000
