"""What the Rerun viewer gets, and what happens where it does not take it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import OutputError
from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.sinks import open_sink
from ocl_edge_runtime.sinks.rerun_log import RerunSink, into_file
from tests.doubles.images import random_image
from tests.doubles.streams import LEARNED, UNDONE, result

pytest.importorskip("rerun", reason="the extra [rerun] is not installed; it needs NumPy 2")

ROOT = Path(__file__).parents[3]
TIME = "stream time"
NOT_READ = ("rerun.controls.RowId", "log_time")
TOO_FAR = Verdict(Reason.STATISTICS_TOO_FAR, distance=0.9)


def shot(index: int) -> Frame:
    return Frame(random_image(index), index, f"{index:06d}", 100.0 + index / 10)


def recorded(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Entity -> its rows, column by column."""
    from rerun.chunk import RrdReader

    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for chunk in RrdReader(str(path)).stream():
        batch = chunk.to_record_batch()
        columns = {name: batch.column(name) for name in batch.schema.names if name not in NOT_READ}
        if TIME in columns:  # nanoseconds, which Python's own durations do not hold
            columns[TIME] = columns[TIME].cast("int64")
        listed = {name: column.to_pylist() for name, column in columns.items()}
        rows = zip(*listed.values(), strict=True)
        found[chunk.entity_path] += [dict(zip(listed, row, strict=True)) for row in rows]
    return dict(found)


@pytest.fixture(scope="module")
def recording(
    small_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[dict[str, Any]]]:
    path = tmp_path_factory.mktemp("rerun") / "out.rrd"
    verdicts = [LEARNED, UNDONE, TOO_FAR, TOO_FAR, LEARNED]
    with RerunSink("front", small_bundle.manifest, into_file(path)) as sink:
        for index, verdict in enumerate(verdicts):
            sink.emit(shot(index), np.full((40, 50), index, np.uint8))
            sink.told(shot(index), result(verdict, 10.0 + index, late=index == 4))
    return recorded(path)


def test_images_and_masks_lie_on_one_time_line(recording: dict[str, list[dict[str, Any]]]) -> None:
    images, masks = recording["/front/image"], recording["/front/image/classes"]
    for rows in (images, masks):
        assert [row["frame"] for row in rows] == list(range(5))
        assert [row[TIME] / 1e9 for row in rows] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    picture = Image.open(io.BytesIO(bytes(images[3]["EncodedImage:blob"][0])))
    assert np.abs(np.asarray(picture).astype(int) - random_image(3)).mean() < 8
    assert set(masks[3]["SegmentationImage:buffer"][0]) == {3}


def test_classes_have_their_names_and_colours(
    recording: dict[str, list[dict[str, Any]]], small_bundle: Bundle
) -> None:
    (row,) = recording["/front"]
    told = {
        each["class_description"]["info"]["label"]: each["class_description"]["info"]["color"]
        for each in row["AnnotationContext:context"][0]
    }
    expected = {c.name: int.from_bytes(bytes([*c.colour, 255]), "big") for c in small_bundle.manifest.classes}
    assert told == expected


def test_numbers_and_events_are_those_of_the_frames(recording: dict[str, list[dict[str, Any]]]) -> None:
    def numbers(name: str) -> list[float]:
        return [row["Scalars:scalars"][0] for row in recording[f"/front/{name}"]]

    assert numbers("mask_latency_ms") == pytest.approx([10, 11, 12, 13, 14])
    assert numbers("loss") == pytest.approx([-2.5, -2.0, -2.5])
    assert numbers("drift") == pytest.approx([0.25] * 3)
    assert numbers("opening") == [0.5] * 5
    events = [row["TextLog:text"][0] for row in recording["/front/events"]]
    assert events[0].startswith("roll back")
    assert events[1:] == [str(TOO_FAR), "frame 000004: late"], "what goes on is told once"


def test_a_mask_of_another_size_covers_the_image(small_bundle: Bundle, tmp_path: Path) -> None:
    path, mask = tmp_path / "out.rrd", np.array([[1, 2], [3, 4]], np.uint8)
    with RerunSink("front", small_bundle.manifest, into_file(path)) as sink:
        sink.emit(shot(0), mask)
    (row,) = recorded(path)["/front/image/classes"]
    covering = np.array(row["SegmentationImage:buffer"][0], np.uint8).reshape(40, 50)
    assert np.array_equal(covering, np.kron(mask, np.ones((20, 25), np.uint8)))


def test_as_a_sink_of_a_run_it_writes_a_new_file(small_bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "out.rrd"
    with open_sink(f"rerun:{path}", small_bundle.manifest, 0.1) as sink:
        for index in range(20):
            sink.emit(shot(index), np.zeros((40, 50), np.uint8))
            sink.told(shot(index), result())
    found = recorded(path)
    assert len(found["/camera/image"]) == len(found["/camera/opening"]) == 20
    with pytest.raises(OutputError, match="never written over"):
        open_sink(f"rerun:{path}", small_bundle.manifest, 0.1)
    with pytest.raises(OutputError, match="cannot write the recording"):
        open_sink(f"rerun:{tmp_path / 'nowhere' / 'out.rrd'}", small_bundle.manifest, 0.1)


SHOWING = """
import json, socket, sys, time
import numpy as np
from ocl_edge.bundle.reading import Bundle
from ocl_edge_runtime.sinks.queued import QueuedSink
from ocl_edge_runtime.sinks.rerun_log import RerunSink, into_viewer
from tests.doubles.streams import frame, result

server = socket.create_server(("127.0.0.1", 0))
port = server.getsockname()[1]
if sys.argv[2] == "gone":
    server.close()
viewer = RerunSink("front", Bundle.open(sys.argv[1]).manifest, into_viewer(f"rerun+http://127.0.0.1:{port}/proxy"))
sink, mask = QueuedSink(viewer, waits=False, on_failure=print), np.zeros((40, 40), np.uint8)
slowest_s = 0.0
for index in range(300):
    started = time.perf_counter()
    sink.emit(frame(index, 40), mask)
    sink.told(frame(index, 40), result())
    slowest_s = max(slowest_s, time.perf_counter() - started)
started = time.perf_counter()
sink.close()
close_s = time.perf_counter() - started
print(json.dumps({"slowest_s": slowest_s, "close_s": close_s, "left_out": sink.left_out}))
"""


@pytest.mark.parametrize("viewer", ["stalled", "gone"])
def test_a_viewer_that_stalls_or_is_gone_delays_no_mask_and_no_end(viewer: str, small_bundle: Bundle) -> None:
    """A socket that takes connections and never reads; and one that is closed."""
    command = [sys.executable, "-c", SHOWING, str(small_bundle.path), viewer]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=120, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["slowest_s"] < 0.3
    assert found["left_out"] > 0
    assert found["close_s"] < 10
