from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from ocl_edge.bundle.manifest import file_sha256
from ocl_edge.bundle.reading import Bundle, load_backbone, load_head, load_norms
from ocl_edge.errors import BundleError, UsageError
from ocl_edge.network.form_names import FORMS
from ocl_edge_app.cli import run
from ocl_edge_export.convert import convert_bundle
from ocl_edge_export.gate_runners import run_onnx
from tests.doubles.bundles import unpack_old

FILE = {"sha256": "0" * 64, "bytes": 1}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return unpack_old(tmp_path)


def test_an_old_bundle_is_refused_with_the_command_that_converts_it(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BundleError, match=f"ocl-edge convert {old} NEW --trust-pickle"):
        Bundle.open(old)
    assert run(["convert", str(old), str(tmp_path / "new")]) == 2
    assert "can run code that it holds: if you exported it yourself" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert run(["convert", str(old), str(tmp_path / "new"), "--trust-pickle"]) == 0
    assert Bundle.open(tmp_path / "new").manifest.schema_version == 4


def test_a_converted_bundle_computes_what_the_old_one_did(old: Path, tmp_path: Path) -> None:
    bundle = convert_bundle(old, tmp_path / "new", trust_pickle=True)
    image = torch.randn(2, 3, 48, 64)
    vectors = torch.rand(2, bundle.manifest.norm_channels)
    inputs = {
        "plain": {"image": image},
        "modulated": {"image": image, "norm_vectors": vectors},
        "measured": {"image": image, "anchor_statistics": vectors, "anchor_weight": vectors[:1]},
    }
    for form in FORMS:
        before, after = (
            run_onnx(path / f"backbone.{form}.onnx", inputs[form]) for path in (old, bundle.path)
        )
        assert all(torch.equal(before[name], after[name]) for name in before)
    features = run_onnx(old / "backbone.plain.onnx", inputs["plain"])["features_0"]
    with torch.no_grad():
        assert torch.allclose(load_backbone(bundle)(image)[0], features, atol=1e-5)
        parameters = dict(load_head(bundle).named_parameters())
        logits = run_onnx(
            old / "head.onnx",
            {
                "features": features,
                "weight": parameters["classifier.weight"].detach(),
                "bias": parameters["classifier.bias"].detach(),
            },
        )["logits"]
        assert torch.allclose(load_head(bundle)(features)[0], logits, atol=1e-5)
    assert load_norms(bundle).statistics.shape == (2, 46)


def test_what_export_found_out_is_kept(old: Path, tmp_path: Path) -> None:
    manifest = convert_bundle(old, tmp_path / "new", trust_pickle=True).manifest
    assert manifest.architecture == "tests/small_network.py:build"
    assert manifest.created_with["torch"] == "2.13.0+cpu"
    assert manifest.created_with["converted by ocl-edge"]
    assert set(manifest.parity["forms"]) >= {"plain", "modulated"}
    assert manifest.head_graphs is not None
    assert not any(name.endswith(".pt2") for name in manifest.files)
    model = onnx.load(tmp_path / "new" / "backbone.plain.onnx", load_external_data=False)
    assert {e.value for t in model.graph.initializer for e in t.external_data if e.key == "location"} == {
        "weights.safetensors"
    }


def test_what_is_no_old_bundle_is_refused(old: Path, small_bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "new"
    with pytest.raises(BundleError, match="schema 4, convert reads 3: it needs no conversion"):
        convert_bundle(small_bundle.path, out, trust_pickle=True)
    with pytest.raises(BundleError, match="is no complete bundle"):
        convert_bundle(tmp_path / "nothing", out, trust_pickle=True)
    with pytest.raises(UsageError, match="exists"):
        convert_bundle(old, Path(shutil.copytree(old, tmp_path / "other")), trust_pickle=True)
    (old / "head.pt2").write_bytes(b"changed")
    with pytest.raises(BundleError, match=r"head\.pt2 was changed after export"):
        convert_bundle(old, out, trust_pickle=True)
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m["files"].update({"../x": FILE}), r"files: ../x"),
        (lambda m: m["files"].update({"/etc/passwd": FILE}), r"files: /etc/passwd"),
        (lambda m: m["files"].update({"head.pt2": None}), r"files: head.pt2"),
        (lambda m: m.update(files=[]), r"files is a list"),
        (lambda m: m["files"].pop("head.pt2"), r"lists no head.pt2"),
        (lambda m: m.pop("align_corners"), r"align_corners"),
        (lambda m: m.update(features="x"), r"features"),
        (lambda m: m["input"].update(height=10**9), r"input.height"),
        (lambda m: m.update(schema_version=[3]), r"bundle schema \[3\]"),
    ],
)
def test_what_an_old_manifest_says_is_checked_before_anything_else_is_read(
    old: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    fields = json.loads((old / "manifest.json").read_text("utf-8"))
    change(fields)
    (old / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(BundleError, match=said):
        convert_bundle(old, tmp_path / "new", trust_pickle=True)
    assert not (tmp_path / "new").exists()


def test_old_bundles_of_pipes_devices_links_and_brackets_are_refused_at_once(
    old: Path, tmp_path: Path
) -> None:
    (old / "head.pt2").rename(tmp_path / "aside")
    os.mkfifo(old / "head.pt2")
    with pytest.raises(BundleError, match=r"head.pt2 cannot be read: it is a pipe"):
        convert_bundle(old, tmp_path / "new", trust_pickle=True)
    (old / "head.pt2").unlink()
    os.symlink(tmp_path / "aside", old / "head.pt2")
    with pytest.raises(BundleError, match=r"head.pt2 is a link to .*outside of the bundle"):
        convert_bundle(old, tmp_path / "new", trust_pickle=True)
    (old / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(BundleError, match=r"nested deeper"):
        convert_bundle(old, tmp_path / "new", trust_pickle=True)
    (old / "manifest.json").unlink()
    os.symlink("/dev/zero", old / "manifest.json")
    with pytest.raises(BundleError, match=r"it is a device"):
        convert_bundle(old, tmp_path / "new", trust_pickle=True)


def test_an_archive_that_was_cut_is_named_in_a_line(
    old: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """PyTorch logs the traceback of what it tries first."""
    (old / "head.pt2").write_bytes((old / "head.pt2").read_bytes()[:200])
    fields = json.loads((old / "manifest.json").read_text("utf-8"))
    fields["files"]["head.pt2"] = {"sha256": file_sha256(old / "head.pt2"), "bytes": 200}
    (old / "manifest.json").write_text(json.dumps(fields))
    assert run(["convert", str(old), str(tmp_path / "new"), "--trust-pickle"]) == 1
    said = capfd.readouterr().err
    assert "head.pt2 cannot be loaded" in said
    assert "Traceback" not in said
