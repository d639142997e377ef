from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ocl_edge.bundle.reading import Bundle, load_head_weights
from ocl_edge.errors import BundleError, CaptureError, UsageError
from ocl_edge_export.capture import refuse_old_pytorch
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from tests.doubles import small_network
from tests.doubles.bundles import SMALL_ARCH, export_small


def test_the_manifest_says_what_was_exported(small_bundle: Bundle, small_checkpoint: Path) -> None:
    manifest = small_bundle.manifest
    assert manifest.architecture == SMALL_ARCH
    assert manifest.checkpoint == small_checkpoint.name
    assert (manifest.input.height, manifest.input.width) == (48, 64)
    assert manifest.head_module == "classifier"
    assert manifest.head_parameters == 35
    assert [(n.name, n.channels, n.pinned) for n in manifest.norms] == [
        ("stem_norm", 8, False),
        ("join_norm", 16, False),
        ("gate.2", 16, True),
        ("narrow_norm", 6, False),
    ]
    assert manifest.norm_channels == 46
    assert manifest.created_with["torch"] == torch.__version__
    assert [c.name for c in manifest.classes] == [f"class_{i}" for i in range(5)]


def test_norms_and_head_hold_the_checkpoints_numbers(small_bundle: Bundle) -> None:
    state = small_network.trained().state_dict()
    norms = load_file(small_bundle.file("norms.safetensors"))
    assert torch.equal(norms["mean"][8:24], state["join_norm.running_mean"])
    assert torch.equal(norms["var"][:8], state["stem_norm.running_var"])
    assert torch.equal(norms["weight"][24:40], state["gate.2.weight"])
    assert norms["weight"][40:].eq(1).all()
    assert norms["bias"][40:].eq(0).all()
    assert norms["eps"][8:24].eq(1e-3).all()
    head = load_head_weights(small_bundle)
    assert torch.equal(head["classifier.weight"], state["classifier.weight"])


def test_exporting_twice_gives_the_same_bundle(
    tmp_path: Path, small_bundle: Bundle, small_checkpoint: Path
) -> None:
    again = export_small(tmp_path / "again", small_checkpoint, stat_rows=1)
    assert again.manifest.files.keys() == small_bundle.manifest.files.keys()
    assert again.manifest.files == small_bundle.manifest.files


def test_an_existing_bundle_is_kept_without_force(small_bundle: Bundle, small_checkpoint: Path) -> None:
    with pytest.raises(UsageError, match="--force"):
        export_small(small_bundle.path, small_checkpoint)
    small_bundle.verify()


def test_a_size_that_the_network_cannot_take_leaves_nothing(tmp_path: Path) -> None:
    from ocl_edge.network.zoo.espnetv2 import ESPNetv2

    torch.save(ESPNetv2(0.5, 5).state_dict(), tmp_path / "esp.pth")
    with pytest.raises(CaptureError, match="100x128 image: ESPNetv2 needs"):
        export_bundle(ExportRequest(tmp_path / "esp.pth", tmp_path / "out", input_size=(100, 128)))
    assert [f.name for f in tmp_path.iterdir()] == ["esp.pth"]


def test_size_and_classes_must_be_known_and_fit(tmp_path: Path, small_checkpoint: Path) -> None:
    with pytest.raises(UsageError, match=f"--arch {SMALL_ARCH} --input-size HEIGHTxWIDTH$"):
        export_bundle(ExportRequest(small_checkpoint, tmp_path / "out", arch=SMALL_ARCH))
    (tmp_path / "classes.json").write_text(json.dumps(["a", "b"]))
    with pytest.raises(UsageError, match="names 2 classes, the network has 5"):
        export_small(tmp_path / "out", small_checkpoint, classes=tmp_path / "classes.json")


def test_metadata_of_the_checkpoint_is_used(tmp_path: Path) -> None:
    metadata = {
        "input_size": (48, 64),
        "classes": list("abcde"),
        "palette": [(i, i, i) for i in range(5)],
        "mean": (0.5, 0.5, 0.5),
        "std": (0.25, 0.25, 0.25),
    }
    torch.save(
        {"ocl_edge": metadata, "state_dict": small_network.trained().state_dict()}, tmp_path / "full.pth"
    )
    manifest = export_bundle(ExportRequest(tmp_path / "full.pth", tmp_path / "out", arch=SMALL_ARCH)).manifest
    assert manifest.input.mean == (0.5, 0.5, 0.5)
    assert [(c.name, c.colour) for c in manifest.classes][4] == ("e", (4, 4, 4))


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, small_checkpoint: Path) -> None:
    """A real limit on file size, in a process of its own: the write of a large file fails midway."""
    code = f"""
import resource, sys
from pathlib import Path
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge.errors import BundleError
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, {resource.RLIM_INFINITY}))
request = ExportRequest(Path({str(small_checkpoint)!r}), Path({str(tmp_path / "out")!r}), arch={SMALL_ARCH!r},
                        input_size=(48, 64))
try:
    export_bundle(request)
except BundleError as error:
    print(error)
    sys.exit(7)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert "nothing was left there" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_place_is_refused(tmp_path: Path, small_checkpoint: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="cannot write"):
        export_small(tmp_path / "file" / "out", small_checkpoint)


def test_a_pytorch_that_cannot_export_is_named_with_the_way_out() -> None:
    for version in ("2.6.0+debian", "2.3.1", "1.13.0"):
        with pytest.raises(CaptureError, match=f"PyTorch {re.escape(version)} .* 2.7 or later .*runs here"):
            refuse_old_pytorch(version)
    for version in ("2.7.0", "2.13.0+cpu", "3.0.0a0"):
        refuse_old_pytorch(version)
