"""``ocl-edge calibrate`` and ``export --calibration``, as a user meets them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ocl_edge.bundle.home import load_home, store_home
from ocl_edge.bundle.reading import Bundle
from ocl_edge.bundle.signature import SIGNATURE
from ocl_edge_app.cli import run
from tests.app.html_rules import checked
from tests.doubles.bundles import SMALL_ARCH
from tests.doubles.home_frames import home_frame, write_frames
from tests.doubles.images import random_image
from tests.doubles.small_network import WithoutBatchNorm


@pytest.fixture
def bundle(small_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_bundle.path, tmp_path / "bundle"))


@pytest.fixture
def home_frames(tmp_path: Path) -> Path:
    return write_frames(tmp_path / "home", [home_frame(seed) for seed in range(6)])


def test_calibrate_writes_json_report_and_bundle(
    bundle: Path, home_frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    html = tmp_path / "home.html"
    arguments = ["calibrate", str(bundle), "--frames", str(home_frames), "--threads", "1"]
    assert run([*arguments, "--json", "-", "--html", str(html)]) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    opened = Bundle.open(bundle)
    assert report["identity"] == opened.identity
    assert report["home"] == json.loads(opened.manifest.model_dump_json())["home"]
    assert len(report["distances"]) == report["home"]["frames"] == 6
    page = checked(html.read_text(encoding="utf-8"))
    for words in (
        "home frames",
        "shot noise",
        "haze",
        opened.identity,
        "6 frames are few",
        "fitted, 0.6",
        "loss (OCL) of the view pair",
    ):
        assert words in page.text
    assert "calibrate: check on 3 others" in said.err
    assert run(["inspect", str(bundle)]) == 0
    assert "6 frames" in capsys.readouterr().out


def test_calibrate_shows_what_was_found_and_says_what_is_wrong(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = write_frames(tmp_path / "elsewhere", [random_image(seed) for seed in range(6)])
    (bundle / SIGNATURE).write_bytes(bytes(64))
    assert run(["calibrate", str(bundle), "--frames", str(elsewhere), "--threads", "1"]) == 0
    said = capsys.readouterr()
    assert "the signature is that of the bundle before" in said.err
    shown = said.out
    assert "haze" in shown
    assert "which are not home" in shown
    assert "is sure of" in shown


def test_black_frames_are_refused_and_the_bundle_stays(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Bundle.open(bundle).identity
    black = write_frames(tmp_path / "black", [np.full((40, 50, 3), i, np.uint8) for i in range(20)])
    assert run(["calibrate", str(bundle), "--frames", str(black)]) == 2
    assert "20 frames are left out: they show nothing (black, or of one colour)" in capsys.readouterr().err
    assert Bundle.open(bundle).identity == before


def test_an_export_with_home_frames_is_calibrated(
    small_checkpoint: Path, home_frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = ["export", str(small_checkpoint), "--arch", SMALL_ARCH, "--input-size", "48x64"]
    few = write_frames(tmp_path / "few", [home_frame(seed) for seed in range(4)])
    out = tmp_path / "new"
    assert run([*export, "--calibration", str(few), "--out", str(out)]) == 2
    assert "4 different frames" in capsys.readouterr().err
    assert not out.exists()
    assert run([*export, "--calibration", str(home_frames), "--out", str(out)]) == 0
    assert Bundle.open(out).manifest.home is not None
    assert "6 frames are few" in capsys.readouterr().err


def test_a_calibrated_bundle_runs_the_same_without_pytorch(
    bundle: Path, home_frames: Path, tmp_path: Path
) -> None:
    assert run(["calibrate", str(bundle), "--frames", str(home_frames), "--threads", "1", "--quiet"]) == 0
    runs_the_same_without_pytorch(bundle, tmp_path)


def test_so_does_one_without_norms(home_frames: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(WithoutBatchNorm().state_dict(), tmp_path / "network.pth")
    arch, bundle = f"{SMALL_ARCH}_without_batch_norm", tmp_path / "without"
    export = ["export", str(tmp_path / "network.pth"), "--arch", arch, "--input-size", "48x64"]
    assert run([*export, "--out", str(bundle), "--quiet"]) == 0
    assert run(["calibrate", str(bundle), "--frames", str(home_frames), "--threads", "1", "--quiet"]) == 0
    opened = Bundle.open(bundle)
    assert opened.manifest.home is not None
    home = opened.manifest.home.model_copy(update={"fullness": 1.0, "head": None})
    store_home(opened, home, load_home(opened))
    assert runs_the_same_without_pytorch(bundle, tmp_path)[-1]["opening"] > 0.5


def runs_the_same_without_pytorch(bundle: Path, tmp_path: Path) -> list[dict[str, object]]:
    """Masks are compared; the run's journal is given back."""
    frames = write_frames(tmp_path / "frames", [random_image(seed) for seed in range(4)])
    words = ["run", str(bundle), "--source", str(frames), "--backend", "onnxruntime", "--head", "engine"]
    without = (
        "import sys; sys.modules['torch'] = None; import ocl_edge_app.cli as c; sys.exit(c.run(sys.argv[1:]))"
    )
    journal = tmp_path / "journal.jsonl"
    sinks = ["--quiet", "--sink", f"masks:{tmp_path / 'with'}", "--journal", str(journal)]
    assert run([*words, *sinks]) == 0
    command = [
        sys.executable,
        "-c",
        without,
        *words,
        "--quiet",
        "--sink",
        f"masks:{tmp_path / 'without_torch'}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for file in (tmp_path / "with").iterdir():
        assert file.read_bytes() == (tmp_path / "without_torch" / file.name).read_bytes()
    return [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
