"""The published checkpoint on real driving video: the numbers that the design stands on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge.scoring.metrics import ConfusionMatrix
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions
from ocl_edge_runtime.sources import ImageSource

pytestmark = pytest.mark.footage
FRAMES = 20


@pytest.fixture(scope="module")
def bundle(published_bundle: Bundle) -> Bundle:
    return published_bundle


def miou(bundle: Bundle, options: SessionOptions, data: Path) -> float:
    mapping = json.loads((data / "camvid" / "from_cityscapes.json").read_text("utf-8"))["to_camvid"]
    matrix = ConfusionMatrix(11, 11, np.array(mapping))
    session = open_session(bundle, options)
    for frame in ImageSource(str(data / "camvid" / "0001TP" / "images"), limit=FRAMES):
        labels = np.array(Image.open(data / "camvid" / "0001TP" / "labels" / f"{frame.name}.png"))
        matrix.add(session.step(frame.image).mask, labels)
    return 100 * matrix.miou()


def test_export_recognises_it_and_passes_the_gate_on_real_frames(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.architecture == "espnetv2:scale=2.0,classes=20"
    assert (manifest.head_module, manifest.head_parameters) == ("bu_dec_l4.merge_layer.3", 220)
    assert (manifest.features, manifest.logits) == (((10, 192, 256),), (20, 192, 256))
    assert [c.name for c in manifest.classes][:2] == ["road", "sidewalk"]
    assert manifest.parity["images_from"] == "calibration"
    assert manifest.parity["forms"]["plain"]["class_disagreement"] <= 1e-3
    for difference in manifest.parity["forms"].values():
        assert difference["features_relative"] < 1e-4


def test_onnxruntime_equals_pytorch_and_adaptation_gains(bundle: Bundle, data: Path) -> None:
    frozen = {b: miou(bundle, SessionOptions("frozen", "pair", b), data) for b in ("torch", "onnxruntime")}
    assert frozen["onnxruntime"] == pytest.approx(frozen["torch"], abs=0.05)
    norms = miou(bundle, SessionOptions("norm", backend="onnxruntime", opening=1.0), data)
    assert norms > frozen["onnxruntime"] + 4
