"""``ocl-edge calibrate`` and ``export --calibration``, as a user meets them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge.bundle.signature import SIGNATURE
from ocl_edge_app.cli import run
from tests.app.html_rules import checked
from tests.doubles.bundles import SMALL_ARCH
from tests.doubles.home_frames import home_frame, write_frames
from tests.doubles.images import random_image


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
    for words in ("home frames", "shot noise", "haze", opened.identity, "6 frames are few", "fitted, 0.6"):
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
    frames = write_frames(tmp_path / "frames", [random_image(seed) for seed in range(4)])
    words = [
        "run",
        str(bundle),
        "--source",
        str(frames),
        "--backend",
        "onnxruntime",
        "--head",
        "engine",
        "--quiet",
    ]
    without = (
        "import sys; sys.modules['torch'] = None; import ocl_edge_app.cli as c; sys.exit(c.run(sys.argv[1:]))"
    )
    assert run([*words, "--sink", f"masks:{tmp_path / 'with'}"]) == 0
    command = [sys.executable, "-c", without, *words, "--sink", f"masks:{tmp_path / 'without'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for file in (tmp_path / "with").iterdir():
        assert file.read_bytes() == (tmp_path / "without" / file.name).read_bytes()
