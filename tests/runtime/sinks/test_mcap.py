from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from PIL import Image

from ocl_edge.errors import OutputError, UsageError
from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge_runtime.clock import RealClock
from ocl_edge_runtime.session.frames import Frame, FrameResult, Header
from ocl_edge_runtime.sinks import open_sink
from ocl_edge_runtime.sinks.mcap import McapSink
from ocl_edge_runtime.sources import SourceOptions, open_source
from tests.doubles.bundles import Bundle
from tests.doubles.ros_messages import START_NS, picture

VERDICT = Verdict(Reason.AT_HOME)
FULL = Path("/dev/full")


def result(index: int, mask: np.ndarray) -> FrameResult:
    return FrameResult(mask, VERDICT, {"head": 5.0}, opening=index / 10, distance=None if index else 0.5)


def frame(index: int, header: Header | None = None) -> Frame:
    return Frame(picture(index), index, f"{index:06d}", 0.0, header=header)


def mask(index: int) -> np.ndarray:
    return (picture(index)[..., 0] > 90).astype(np.uint8)


def headers(count: int) -> list[Header]:
    """Stamps are an hour behind the recorder's clock."""
    times = [START_NS + i * 10**8 for i in range(count)]
    return [Header(t - 3600 * 10**9, "front", recorded_ns=t) for t in times]


def written(path: Path, bundle: Bundle, given: list[Header | None], frame_s: float | None = 0.1) -> Path:
    with McapSink(path, bundle.manifest, frame_s) as sink:
        for index, header in enumerate(given):
            sink.emit(frame(index, header), mask(index))
            sink.told(frame(index, header), result(index, mask(index)))
    return path


def test_another_library_reads_what_is_written(small_bundle: Bundle, tmp_path: Path) -> None:
    path = written(tmp_path / "out.mcap", small_bundle, list(headers(3)))
    seen: dict[str, list[object]] = {}
    with path.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()], validate_crcs=True)
        for schema, channel, message, decoded in reader.iter_decoded_messages():
            assert schema is not None
            seen.setdefault(channel.topic, []).append(decoded)
            assert message.log_time in [START_NS + i * 10**8 for i in range(3)]
        (metadata,) = reader.iter_metadata()
        classes = json.loads(metadata.metadata["classes"])
        assert reader.get_header().profile == "ros2"
    assert [c["name"] for c in classes] == [c.name for c in small_bundle.manifest.classes]
    assert {topic.removeprefix("/ocl_edge/") for topic in seen} == {
        "image", "mask", "overlay", "diagnostics", "latency_ms", "late", "opening", "updated", "distance",
    }  # fmt: skip
    for index, sent in enumerate(seen["/ocl_edge/mask"]):
        assert (sent.encoding, sent.height, sent.width, sent.step) == ("mono8", 24, 32, 32)  # type: ignore[attr-defined]
        assert np.array_equal(np.frombuffer(sent.data, np.uint8).reshape(24, 32), mask(index))  # type: ignore[attr-defined]
        assert (sent.header.frame_id, sent.header.stamp.sec) == ("front", START_NS // 10**9 - 3600)  # type: ignore[attr-defined]
    image = np.array(Image.open(io.BytesIO(seen["/ocl_edge/image"][1].data)))  # type: ignore[attr-defined]
    assert np.abs(image.astype(int) - picture(1)).mean() < 6
    assert [sent.data for sent in seen["/ocl_edge/opening"]] == [0.0, 0.1, 0.2]  # type: ignore[attr-defined]
    assert [sent.data for sent in seen["/ocl_edge/distance"]] == [0.5]  # type: ignore[attr-defined]
    assert [sent.data for sent in seen["/ocl_edge/latency_ms"]] == [5.0] * 3  # type: ignore[attr-defined]
    (status,) = seen["/ocl_edge/diagnostics"][0].status  # type: ignore[attr-defined]
    assert {pair.key: pair.value for pair in status.values}["update"] == str(VERDICT)


def test_a_run_can_be_played_again_from_its_recording(small_bundle: Bundle, tmp_path: Path) -> None:
    path = written(tmp_path / "out.mcap", small_bundle, list(headers(3)))
    frames = list(open_source(f"{path}#/ocl_edge/mask", SourceOptions(), RealClock()))
    assert [f.header for f in frames] == headers(3)
    assert all(np.array_equal(f.image[..., 0], mask(i)) for i, f in enumerate(frames))
    assert len(list(open_source(f"{path}#/ocl_edge/image", SourceOptions(), RealClock()))) == 3


def test_frames_without_a_message_are_stamped_by_their_pace(small_bundle: Bundle, tmp_path: Path) -> None:
    path = written(tmp_path / "out.mcap", small_bundle, [None] * 4, frame_s=0.25)
    frames = list(open_source(f"{path}#/ocl_edge/mask", SourceOptions(), RealClock()))
    assert [f.stream_s for f in frames] == pytest.approx([0, 0.25, 0.5, 0.75])


def test_a_run_that_was_killed_leaves_a_recording_that_can_be_read(
    small_bundle: Bundle, tmp_path: Path
) -> None:
    sink = McapSink(tmp_path / "out.mcap", small_bundle.manifest, 0.1)
    noisy = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    for index, header in enumerate(headers(40)):
        sink.emit(replace(frame(index, header), image=noisy), noisy[..., 0])
    content = (tmp_path / "out.mcap").read_bytes()
    sink.close()
    (tmp_path / "killed.mcap").write_bytes(content)
    skipped: dict[str, str] = {}
    source = open_source(
        f"{tmp_path / 'killed.mcap'}#/ocl_edge/mask", SourceOptions(), RealClock(), skipped.__setitem__
    )
    assert 20 < len(list(source)) < 40
    assert "cut off" in skipped["the rest"]


def test_nothing_is_written_over(small_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "out.mcap").write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        open_sink(f"mcap:{tmp_path / 'out.mcap'}", small_bundle.manifest)
    with pytest.raises(UsageError, match="ends with"):
        open_sink(f"mcap:{tmp_path / 'out.bag'}", small_bundle.manifest)
    assert (tmp_path / "out.mcap").read_text() == "mine"


def test_a_full_disk_is_said(small_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocl_edge.durable.open_for_lines", lambda *_, **__: FULL.open("wb", buffering=0))
    sink = McapSink(tmp_path / "out.mcap", small_bundle.manifest, 0.1)
    with pytest.raises(OutputError, match="No space left"):
        sink.emit(frame(0), mask(0))
    with pytest.raises(OutputError, match="No space left"):
        sink.close()
    sink.close()
