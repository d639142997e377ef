"""Recordings, topics and pipelines as sources and sinks of ``ocl-edge run``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge_app.cli import run
from ocl_edge_runtime.clock import RealClock
from ocl_edge_runtime.sources import SourceOptions, open_source
from tests.doubles import gstreamer
from tests.doubles.ros_messages import IMAGE, START_NS, STEP_NS, pictures, write_mcap

CAMERA = "/camera/image_raw"


def test_a_recording_is_run_and_the_run_is_a_recording(
    small_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_mcap(tmp_path / "in.mcap", {CAMERA: (IMAGE, pictures(6)), "/rear": (IMAGE, pictures(2))})
    out, journal = tmp_path / "out.mcap", tmp_path / "run.jsonl"
    arguments = ["run", str(small_bundle.path), "--source", f"{bag}#{CAMERA}", "--journal", str(journal)]
    arguments += ["--sink", f"mcap:{out}", "--sink", f"masks:{tmp_path / 'masks'}", "--json", "-"]
    assert run(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["frames"], report["skipped"], report["left_out"]) == (6, 0, 0)
    written = list(open_source(f"{out}#/ocl_edge/mask", SourceOptions(), RealClock()))
    assert [frame.header.recorded_ns for frame in written if frame.header] == [
        START_NS + i * STEP_NS for i in range(6)
    ]
    as_files = list(open_source(str(tmp_path / "masks"), SourceOptions(), RealClock()))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(written, as_files, strict=True))
    assert run(arguments) == 2  # it is there already
    assert "is there already" in capsys.readouterr().err


def test_a_recording_that_was_cut_off_is_used_as_far_as_it_goes(
    small_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_mcap(tmp_path / "in.mcap", {CAMERA: (IMAGE, pictures(6))}, finish=False)
    bag.write_bytes(bag.read_bytes()[:-2000])
    assert run(["run", str(small_bundle.path), "--source", str(bag), "--json", "-"]) == 0
    shown = capsys.readouterr()
    assert 0 < json.loads(shown.out)["frames"] < 6
    assert "cut off" in shown.err


@pytest.mark.parametrize(
    ("source", "code", "said"),
    [
        ("{bag}", 2, "has images on several topics, name one"),
        ("{bag}#/nothing", 2, "has no topic /nothing"),
        ("{text}", 1, "is no MCAP file"),
        ("ros2:camera", 2, "full name of a topic"),
        ("gst:", 2, "cannot be built"),
    ],
)
def test_what_cannot_be_read_says_so(
    source: str,
    code: int,
    said: str,
    small_bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if source == "gst:" and gstreamer.problem():
        pytest.skip(str(gstreamer.problem()))
    bag = write_mcap(tmp_path / "in.mcap", {CAMERA: (IMAGE, pictures(1)), "/rear": (IMAGE, pictures(1))})
    text = tmp_path / "text.mcap"
    text.write_text("no recording")
    place = source.format(bag=bag, text=text)
    assert run(["run", str(small_bundle.path), "--source", place]) == code
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown


def test_a_recorded_schedule_is_replayed_from_the_same_recording(
    small_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_mcap(tmp_path / "in.mcap", {CAMERA: (IMAGE, pictures(8))})
    common = ["run", str(small_bundle.path), "--source", str(bag), "--opening", "auto"]
    schedule = str(tmp_path / "run.jsonl")
    assert run([*common, "--record-schedule", schedule]) == 0
    assert run([*common, "--replay-schedule", schedule]) == 0
    assert "bit for bit" in capsys.readouterr().err
