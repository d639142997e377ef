"""What people type by mistake, and what they are told to type instead."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ocl_edge.bundle.reading import Bundle
from ocl_edge_app.cli import run
from tests.doubles import small_network
from tests.doubles.bundles import SMALL_ARCH


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run([*arguments]) in (1, 2)
    return capsys.readouterr().err.strip()


def test_without_out_the_bundle_is_named_after_the_checkpoint_and_lies_here(
    place: Path, small_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", str(small_checkpoint), "--arch", SMALL_ARCH, "--input-size", "48x64"]
    assert run(command) == 0
    assert Bundle.open(place / "small.ocl").manifest.checkpoint == "small.pth"
    assert "small.ocl exists" in told(capsys, *command)


def test_everything_that_is_missing_is_asked_for_at_once_with_the_command_to_type(
    place: Path, small_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = told(capsys, "export", str(small_checkpoint))
    assert "the architecture is not recognised from the" in text
    assert "--input-size HEIGHTxWIDTH: the height and width in pixels that it was trained at" in text
    command = f"ocl-edge export {small_checkpoint} --arch path/to/file.py:function --input-size HEIGHTxWIDTH"
    assert text.endswith(f"Type: {command}")
    only_arch = told(capsys, "export", str(small_checkpoint), "--input-size", "48x64")
    assert only_arch.endswith("--input-size 48x64 --arch path/to/file.py:function")
    assert "HEIGHTxWIDTH" not in only_arch
    assert list(place.iterdir()) == []


def test_a_pickled_network_is_asked_for_its_size_together_with_the_trust(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(small_network.trained(), "net.pth")
    text = told(capsys, "export", "net.pth")
    assert "--trust-pickle" in text
    assert "--input-size HEIGHTxWIDTH" in text
    assert "--input-size" not in told(capsys, "export", "net.pth", "--input-size", "48x64")


@pytest.mark.parametrize("verb", ["run", "inspect", "profile"])
def test_a_checkpoint_is_no_bundle(
    place: Path, small_checkpoint: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ["--source", "frames"] if verb == "run" else []
    text = told(capsys, verb, str(small_checkpoint), *source)
    assert (
        f"is a checkpoint, not a bundle; make one of it, small.ocl: ocl-edge export {small_checkpoint}"
        in text
    )
    assert "--out" not in text


def test_other_things_that_are_no_bundle(
    place: Path, small_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("net.onnx").write_bytes(b"\x08\x08")
    Path("net.engine").write_bytes(b"ftrt")
    Path("empty").mkdir()
    Path("notes.txt").write_text("hello")
    assert "net.onnx is a checkpoint, not a bundle; make one of it, net.ocl" in told(
        capsys, "inspect", "net.onnx"
    )
    assert "net.onnx is no ONNX file, or empty: it holds no operators" in told(capsys, "export", "net.onnx")
    assert "net.engine is a compiled engine" in told(capsys, "inspect", "net.engine")
    assert "empty is not a bundle: it holds no manifest.json" in told(capsys, "inspect", "empty")
    assert "notes.txt is not a bundle: a bundle is a directory" in told(capsys, "inspect", "notes.txt")
    assert "there is no bundle none; make one with: ocl-edge export CHECKPOINT --out none" in told(
        capsys, "inspect", "none"
    )
    missing = told(capsys, "inspect", "model.pth")
    assert missing.endswith("there is no bundle model.pth; make one with: ocl-edge export CHECKPOINT")
    inside = told(capsys, "inspect", str(small_bundle.path / "backbone.plain.onnx"))
    assert inside.endswith(f"is a file of a bundle; give its directory: {small_bundle.path}")


def test_a_bundle_is_no_checkpoint(
    place: Path, small_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    text = told(capsys, "export", str(small_bundle.path))
    assert text.endswith(f"is a bundle already; run it: ocl-edge run {small_bundle.path} --source DIR")
    Path("weights").mkdir()
    assert "weights is a directory; expected the file of a checkpoint" in told(capsys, "export", "weights")
    assert "there is no checkpoint none.pth" in told(capsys, "export", "none.pth")
