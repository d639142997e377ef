"""Sources, sinks and the loop."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import FrameError, OutputError, UsageError
from ocl_edge_runtime.loop import run_stream
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions
from ocl_edge_runtime.sinks import Sink, open_sink, open_sinks
from ocl_edge_runtime.sinks.files import write_png
from ocl_edge_runtime.sources import ImageSource, repeated
from tests.doubles.images import random_image


@pytest.fixture
def mixed(frames: Path, tmp_path: Path) -> Path:
    """Six good frames and five bad ones among them."""
    directory = Path(shutil.copytree(frames, tmp_path / "mixed"))
    (directory / "frame_00b.png").write_bytes(b"")
    (directory / "frame_01b.png").write_bytes((directory / "frame_01.png").read_bytes()[:200])
    (directory / "frame_02b.png").write_text("not an image")
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(directory / "frame_03b.tiff")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(directory / "frame_04b.png")
    (directory / "notes.txt").write_text("left out")
    return directory


def test_directories_files_and_globs_in_order_of_name(frames: Path) -> None:
    names = [f"frame_{i:02d}" for i in range(6)]
    assert [f.name for f in ImageSource(str(frames))] == names
    assert [f.name for f in ImageSource(str(frames / "frame_03.png"))] == names[3:4]
    assert [f.name for f in ImageSource(str(frames / "*_0[12].png"))] == names[1:3]
    assert [f.name for f in ImageSource(str(frames), limit=2)] == names[:2]
    first = next(iter(ImageSource(str(frames))))
    assert np.array_equal(first.image, random_image(0))
    assert first.decode_ms > 0


@pytest.mark.parametrize("text", ["nowhere", "nowhere/*.png"])
def test_a_source_without_images_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file matches"):
        ImageSource(str(tmp_path / text))
    with pytest.raises(UsageError, match="holds no images"):
        ImageSource(str(tmp_path))


def test_bad_images_are_reported_skipped_and_counted(
    small_bundle: Bundle, mixed: Path, tmp_path: Path
) -> None:
    skipped: dict[str, str] = {}
    source = ImageSource(str(mixed), on_skip=skipped.__setitem__)
    sink = open_sink(f"masks:{tmp_path / 'out'}", small_bundle.manifest)
    report = run_stream(open_session(small_bundle, SessionOptions(opening=1.0)), source, [sink])
    assert (report.frames, report.skipped, report.updates) == (6, 5, 6)
    assert skipped["frame_00b.png"] == "is empty"
    assert skipped["frame_02b.png"].startswith("is not an image of a known format")
    assert "cannot be decoded" in skipped["frame_01b.png"]
    assert "mode 'F'" in skipped["frame_03b.tiff"]
    assert "8-bit" in skipped["frame_04b.png"]
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == [f"frame_{i:02d}.png" for i in range(6)]


def test_nothing_usable_is_an_error(small_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"")
    with pytest.raises(FrameError, match="none of the 1 frames"):
        run_stream(open_session(small_bundle, SessionOptions(opening=1.0)), ImageSource(str(tmp_path)), [])


def test_masks_are_class_indices_at_the_frames_size(
    small_bundle: Bundle, frames: Path, tmp_path: Path
) -> None:
    sinks = [open_sink(f"{kind}:{tmp_path / kind}", small_bundle.manifest) for kind in ("masks", "overlay")]
    run_stream(open_session(small_bundle, SessionOptions("frozen")), ImageSource(str(frames)), sinks)
    session = open_session(small_bundle, SessionOptions("frozen"))
    for index in range(6):
        with Image.open(tmp_path / "masks" / f"frame_{index:02d}.png") as mask:
            assert mask.mode == "L"
            assert np.array_equal(np.array(mask), session.step(random_image(index)).mask)
        with Image.open(tmp_path / "overlay" / f"frame_{index:02d}.png") as overlay:
            assert (overlay.mode, overlay.size) == ("RGB", (50, 40))
    assert not [f for f in (tmp_path / "masks").iterdir() if "partial" in f.name]


def test_the_mask_is_out_before_the_update(small_bundle: Bundle, frames: Path) -> None:
    order: list[str] = []
    session = open_session(small_bundle, SessionOptions(opening=1.0))
    adapt = session.adapt

    class Recorder(Sink):
        def emit(self, frame: Frame, mask: NDArray[np.uint8]) -> None:
            order.append(f"mask {frame.index} {session.weights.weights_sha256()[:8]}")

    def recorded():  # type: ignore[no-untyped-def]
        order.append("update")
        return adapt()

    session.adapt = recorded  # type: ignore[method-assign]
    run_stream(session, ImageSource(str(frames), limit=3), [Recorder()])
    assert [entry.split()[0] for entry in order] == ["mask", "update"] * 3
    assert len({entry for entry in order if entry != "update"}) == 3


def test_a_full_disk_stops_with_a_clear_error_and_no_half_file(tmp_path: Path) -> None:
    code = f"""
import resource, sys
import numpy as np
from pathlib import Path
from ocl_edge_runtime.sinks.files import write_png
from ocl_edge.errors import OutputError
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), dtype=np.uint8)
    write_png(Path({str(tmp_path)!r}) / "mask.png", noise)
except OutputError as error:
    print(error)
    sys.exit(7)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert "File too large" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_directory_is_refused(tmp_path: Path, small_bundle: Bundle) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write into the directory"):
        open_sink(f"masks:{tmp_path / 'file' / 'out'}", small_bundle.manifest)
    with pytest.raises(OutputError, match="cannot write"):
        write_png(tmp_path / "nowhere" / "mask.png", np.zeros((2, 2), np.uint8))
    for text in ("masks", "masks:", "radio:out"):
        with pytest.raises(UsageError, match="expected masks:DIR or overlay:DIR"):
            open_sink(text, small_bundle.manifest)


def test_sinks_that_would_overwrite_are_refused_before_anything_is_made(
    small_bundle: Bundle, frames: Path, tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(frames, tmp_path / "frames"))
    files, out = ImageSource(str(directory)).files, tmp_path / "out"
    (tmp_path / "link").symlink_to(directory)
    for texts, message in (
        ([f"overlay:{out}", f"masks:{directory}"], "the frames lie there"),
        ([f"overlay:{out}", f"masks:{tmp_path}/link"], "the frames lie there"),
        ([f"overlay:{out}", f"masks:{out}/../out"], "another sink writes there"),
        ([f"overlay:{out}", "masks"], "expected masks:DIR"),
    ):
        with pytest.raises(UsageError, match=message):
            open_sinks(texts, small_bundle.manifest, files)
    linked = ImageSource(str(tmp_path / "link")).files
    with pytest.raises(UsageError, match="the frames lie there"):
        open_sinks([f"overlay:{out}", f"masks:{directory}"], small_bundle.manifest, linked)
    assert not out.exists()
    assert len(open_sinks([f"overlay:{out}", f"masks:{out}/m"], small_bundle.manifest, files)) == 2


def test_two_frames_of_one_name_are_refused_where_files_are_written(
    small_bundle: Bundle, frames: Path, tmp_path: Path
) -> None:
    for name in ("left", "right"):
        shutil.copytree(frames, tmp_path / "drive" / name)
    files = ImageSource(str(tmp_path / "drive" / "*" / "*.png")).files
    assert len(files) == 12
    with pytest.raises(UsageError, match=r"left/frame_00.png and .*right/frame_00.png would both"):
        open_sinks([f"masks:{tmp_path / 'out'}"], small_bundle.manifest, files)
    assert open_sinks([], small_bundle.manifest, files) == []


def test_repeating_goes_on_and_ends_where_nothing_can_be_read(frames: Path, tmp_path: Path) -> None:
    source = ImageSource(str(frames), limit=2)
    assert [f.name for f in itertools.islice(repeated(source), 5)] == [f"frame_{i % 2:02d}" for i in range(5)]
    (tmp_path / "broken.png").write_bytes(b"")
    with pytest.raises(FrameError, match="none of the frames"):
        next(repeated(ImageSource(str(tmp_path))))


def test_the_report_counts_seconds_and_means_what_is_finite(small_bundle: Bundle, frames: Path) -> None:
    start = time.perf_counter()
    report = run_stream(open_session(small_bundle, SessionOptions(opening=1.0)), ImageSource(str(frames)), [])
    assert sum(report.latency_ms + report.update_ms) / 1e3 < report.seconds < time.perf_counter() - start
    assert report.mean_loss == pytest.approx(np.mean(report.losses))
    report.losses += [float("nan"), float("inf")]
    assert report.mean_loss == pytest.approx(np.mean(report.losses[:6]))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_frame_and_reports(
    small_bundle: Bundle, frames: Path, number: signal.Signals
) -> None:
    class Stopper(Sink):
        def emit(self, frame: Frame, mask: NDArray[np.uint8]) -> None:
            if frame.index == 2:
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    report = run_stream(
        open_session(small_bundle, SessionOptions(opening=1.0)), ImageSource(str(frames)), [Stopper()]
    )
    assert report.stopped
    assert (report.frames, report.updates) == (3, 3)
    assert signal.getsignal(number) is before


def test_a_signal_among_unreadable_frames_ends_the_run_there(
    small_bundle: Bundle, frames: Path, tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(frames, tmp_path / "frames"))
    for index in range(9):
        (directory / f"frame_02_{index}.png").write_bytes(b"")
    seen = []

    def stop_at_the_third(name: str, reason: str) -> None:
        seen.append(name)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    report = run_stream(
        open_session(small_bundle, SessionOptions(opening=1.0)),
        ImageSource(str(directory), on_skip=stop_at_the_third),
        [],
    )
    assert report.stopped
    assert (report.frames, report.skipped) == (3, 3)


def test_late_masks_are_counted_on_the_real_clock(small_bundle: Bundle, frames: Path) -> None:
    """The deadline is 500 ms, two of six masks are held back for 600: these two are late, and no other."""

    class Slow(Sink):
        def emit(self, frame: Frame, mask: NDArray[np.uint8]) -> None:
            if frame.index in (1, 4):
                time.sleep(0.6)

    session = open_session(small_bundle, SessionOptions("frozen"))
    session.step(random_image(0))
    report = run_stream(session, ImageSource(str(frames)), [Slow()], deadline_s=0.5)
    assert report.late == 2
    assert report.late_share == report.as_dict()["late_share"] == pytest.approx(1 / 3)
