from __future__ import annotations

import sqlite3
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from mcap.writer import CompressionType
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as DirectoryWriter

from ocl_edge.errors import SourceError, UsageError
from ocl_edge_runtime.clock import RealClock
from ocl_edge_runtime.session.frames import Header
from ocl_edge_runtime.sources import SourceOptions, open_source
from ocl_edge_runtime.sources.mcap_file import LARGEST_CHUNK, MAGIC
from tests.doubles.clock import SimulatedClock
from tests.doubles.ros_messages import (
    COMPRESSED,
    IMAGE,
    ROS,
    START_NS,
    STEP_NS,
    cdr,
    image_message,
    picture,
    pictures,
    write_directory,
    write_mcap,
)

CAMERA = "/camera/image_raw"
COUNT = 6
TWO_CAMERAS = {CAMERA: (IMAGE, pictures(3)), "/rear": (IMAGE, pictures(2, "bgr8"))}
OTHERS = {"/scan": ("sensor_msgs/msg/LaserScan", [(START_NS, b"\0\1\0\0")])}


def skips_of(text: str | Path, **options: object) -> tuple[list[np.ndarray], dict[str, str]]:
    """Images, and what was left out."""
    skipped: dict[str, str] = {}
    with open_source(
        str(text),
        SourceOptions(**options),
        RealClock(),
        skipped.__setitem__,  # type: ignore[arg-type]
    ) as source:
        return [frame.image for frame in source], skipped


@pytest.mark.parametrize("compression", list(CompressionType))
def test_an_mcap_gives_its_images_with_the_times_of_the_recording(
    compression: CompressionType, tmp_path: Path
) -> None:
    path = write_mcap(tmp_path / "a.mcap", {CAMERA: (IMAGE, pictures(COUNT)), **OTHERS}, compression)
    source = open_source(str(path), SourceOptions(), RealClock())
    assert (source.total, source.rate, source.frame_s) == (COUNT, None, pytest.approx(0.1))
    for _ in range(2):  # every iteration begins anew
        frames = list(source)
        assert [f.stream_s for f in frames] == pytest.approx([0.1 * i for i in range(COUNT)])
        assert all(np.array_equal(f.image, picture(i)) for i, f in enumerate(frames))
        assert frames[2].header == Header(
            START_NS + 2 * STEP_NS - 5, "camera", recorded_ns=START_NS + 2 * STEP_NS
        )


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_a_directory_of_ros_2_is_a_recording(plugin: StoragePlugin, tmp_path: Path) -> None:
    path = write_directory(tmp_path / "bag", {CAMERA: (IMAGE, pictures(COUNT))}, plugin)
    frames = list(open_source(str(path), SourceOptions(limit=4), RealClock()))
    assert [f.stream_s for f in frames] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert all(np.array_equal(f.image, picture(i)) for i, f in enumerate(frames))


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_messages_that_were_compressed_one_by_one_are_read(plugin: StoragePlugin, tmp_path: Path) -> None:
    writer = DirectoryWriter(tmp_path / "bag", version=9, storage_plugin=plugin)
    if plugin is StoragePlugin.SQLITE3:
        writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection(CAMERA, IMAGE, typestore=ROS)
        for recorded_ns, data in pictures(2):
            writer.write(connection, recorded_ns, data)
    images, skipped = skips_of(tmp_path / "bag")
    assert (len(images), skipped) == (2, {})
    assert np.array_equal(images[1], picture(1))


def test_files_that_were_compressed_whole_are_to_be_unpacked_first(tmp_path: Path) -> None:
    path = write_directory(tmp_path / "bag", {CAMERA: (IMAGE, pictures(1))})
    (path / "bag.db3").rename(path / "bag.db3.zstd")
    with pytest.raises(SourceError, match="zstd -d"):
        open_source(str(path), SourceOptions(), RealClock())


def test_the_topic_is_named_behind_a_number_sign(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "a.mcap", TWO_CAMERAS)
    images, _ = skips_of(f"{path}#/rear")
    assert len(images) == 2
    assert np.array_equal(images[1], picture(1)[..., ::-1])
    with pytest.raises(UsageError, match=r"#TOPIC.*/camera/image_raw.*/rear"):
        open_source(str(path), SourceOptions(), RealClock())
    odd = write_mcap(tmp_path / "a#b.mcap", {CAMERA: (IMAGE, pictures(1))})
    assert len(skips_of(odd)[0]) == 1


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ("", "no images of ROS 2: it holds /scan"),
        ("#/scan", "/scan holds sensor_msgs/msg/LaserScan"),
        ("#/absent", "has no topic /absent"),
    ],
)
def test_a_recording_without_images_says_what_it_holds(topic: str, said: str, tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "a.mcap", OTHERS)
    with pytest.raises(UsageError, match=said):
        open_source(f"{path}{topic}", SourceOptions(), RealClock())


def test_images_in_another_encoding_than_ros_2s_are_no_images(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "a.mcap", {CAMERA: (IMAGE, pictures(2))}, encoding="ros1")
    with pytest.raises(UsageError, match="ros1"):
        open_source(f"{path}#{CAMERA}", SourceOptions(), RealClock())


def test_a_topic_without_messages_is_refused(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "a.mcap", {CAMERA: (IMAGE, [])})
    with pytest.raises(SourceError, match="it has none"):
        open_source(str(path), SourceOptions(), RealClock())


@pytest.mark.parametrize("compression", list(CompressionType))
def test_what_was_read_before_the_cut_is_used(compression: CompressionType, tmp_path: Path) -> None:
    whole = write_mcap(tmp_path / "a.mcap", {CAMERA: (IMAGE, pictures(COUNT))}, compression, finish=False)
    content = whole.read_bytes()
    counts = []
    for share in (0.4, 0.7, 0.99):
        whole.write_bytes(content[: int(share * len(content))])
        images, skipped = skips_of(whole)
        counts.append(len(images))
        assert all(np.array_equal(image, picture(i)) for i, image in enumerate(images))
        assert "cut off" in skipped["the rest"]
    assert counts == sorted(counts)
    assert 0 < counts[0] < counts[2] < COUNT


def test_a_database_that_was_cut_off_gives_what_it_has(tmp_path: Path) -> None:
    path = write_directory(tmp_path / "bag", {CAMERA: (IMAGE, pictures(60))})
    file = path / "bag.db3"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    images, skipped = skips_of(path)
    assert 0 < len(images) < 60
    assert "damaged" in skipped["the rest"]


def test_a_message_that_cannot_be_used_is_left_out(tmp_path: Path) -> None:
    messages = pictures(4)
    messages[1] = (messages[1][0], messages[1][1][:-50])
    messages[2] = (messages[2][0], cdr(image_message(np.zeros((2, 6), np.uint8), "32FC1")))
    path = write_mcap(tmp_path / "a.mcap", {CAMERA: (IMAGE, messages)})
    images, skipped = skips_of(path)
    assert len(images) == 2
    assert np.array_equal(images[1], picture(3))
    assert "cut off" in skipped["frame 000001"]
    assert "32FC1" in skipped["frame 000002"]


def test_compressed_images_are_read(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "a.mcap", {CAMERA: (COMPRESSED, [(START_NS, b"\0\1\0\0" + 20 * b"\0")])})
    images, skipped = skips_of(path)
    assert images == []
    assert "known format" in skipped["frame 000000"]


def test_a_recording_plays_at_its_own_times(tmp_path: Path) -> None:
    messages = pictures(4)
    times = [0, 100, 250, 10**9]  # the last one eleven days later
    messages = [(START_NS + t * 10**6, data) for t, (_, data) in zip(times, messages, strict=True)]
    path = write_mcap(tmp_path / "a.mcap", {CAMERA: (IMAGE, messages)})
    clock = SimulatedClock()
    begun = clock.now()
    source = open_source(str(path), SourceOptions(fps="own"), clock)
    assert source.rate == pytest.approx(1 / 0.15)
    seen = [frame.captured_at - begun for frame in source]
    assert seen[-1] == pytest.approx(10.25)  # a pause of days is not waited for


def test_a_clock_that_was_set_back_stops_stream_time(tmp_path: Path) -> None:
    times = [0, 100, 50, 300]
    messages = [(START_NS + t * 10**6, data) for t, (_, data) in zip(times, pictures(4), strict=True)]
    path = write_mcap(tmp_path / "a.mcap", {CAMERA: (IMAGE, messages)})
    frames = list(open_source(str(path), SourceOptions(), RealClock()))
    assert [f.stream_s for f in frames] == pytest.approx([0, 0.1, 0.1, 0.3])


def test_a_recording_is_no_camera(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "a.mcap", {CAMERA: (IMAGE, pictures(1))})
    with pytest.raises(UsageError, match="neither"):
        open_source(str(path), SourceOptions(reconnect_s=5), RealClock())


@pytest.mark.parametrize("content", [b"", b"\x89MCAP0\r", MAGIC[:-1] + b"x", b"PK\3\4" + bytes(99)])
def test_what_is_no_mcap_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.mcap").write_bytes(content)
    with pytest.raises(SourceError, match="no MCAP"):
        open_source(str(tmp_path / "a.mcap"), SourceOptions(), RealClock())


def chunk(compression: bytes, packed: bytes, size: int) -> bytes:
    inside = struct.pack("<QQQI", 0, 0, size, 0) + struct.pack("<I", len(compression)) + compression
    inside += struct.pack("<Q", len(packed)) + packed
    return struct.pack("<BQ", 6, len(inside)) + inside


def bomb(compression: str) -> bytes:
    """A chunk of some kilobytes that unpacks to 1 GB."""
    if compression == "zstd":
        import zstandard

        packer = zstandard.ZstdCompressor().compressobj()
        parts = [packer.compress(bytes(1 << 20)) for _ in range(1 << 10)]
        return b"".join([*parts, packer.flush()])
    import lz4.frame

    packer = lz4.frame.LZ4FrameCompressor()
    head = packer.begin()
    return head + b"".join(packer.compress(bytes(1 << 20)) for _ in range(1 << 10)) + packer.flush()


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("claims", [100, LARGEST_CHUNK + 1, 2**63])
def test_a_chunk_that_unpacks_to_more_than_it_says_allocates_little(
    compression: str, claims: int, tmp_path: Path
) -> None:
    (tmp_path / "a.mcap").write_bytes(MAGIC + chunk(compression.encode(), bomb(compression), claims))
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(UsageError, match="no images"):
        open_source(str(tmp_path / "a.mcap"), SourceOptions(), RealClock())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 20
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("length", [2**64 - 1, 2**40, 10**6])
@pytest.mark.parametrize("kind", [3, 4, 5, 6, 9, 200])
def test_a_record_that_claims_more_than_the_file_ends_it(kind: int, length: int, tmp_path: Path) -> None:
    whole = write_mcap(tmp_path / "a.mcap", {CAMERA: (IMAGE, pictures(2))}, finish=False, chunk_size=100)
    whole.write_bytes(whole.read_bytes() + struct.pack("<BQ", kind, length) + b"rest")
    images, skipped = skips_of(whole)
    assert len(images) == 2
    assert "cut off" in skipped["the rest"]


def test_a_definition_of_a_stranger_is_not_looked_at(tmp_path: Path) -> None:
    """All recordings here announce four gigabytes in their definition; see `write_mcap`."""
    path = write_mcap(tmp_path / "a.mcap", {CAMERA: (IMAGE, pictures(1))})
    assert b"huge" in write_mcap(path, {CAMERA: (IMAGE, [])}, CompressionType.NONE).read_bytes()


@pytest.mark.parametrize(
    "attack",
    [
        "CREATE VIEW messages AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) "
        "SELECT i AS timestamp, x'' AS data, 1 AS topic_id FROM n",
        "CREATE TABLE messages(id, topic_id, timestamp, data AS (zeroblob(1000000000)))",
        "CREATE VIRTUAL TABLE messages USING fts4(topic_id, timestamp, data)",
        "SELECT 1",
    ],
)
def test_a_database_that_computes_is_refused(attack: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db3") as database:
        database.execute("CREATE TABLE topics(id, name, type, serialization_format)")
        database.execute(f"INSERT INTO topics VALUES (1, '/a', '{IMAGE}', 'cdr')")
        database.execute(attack)
    database.close()
    with pytest.raises(SourceError, match=r"a\.db3"):
        open_source(str(tmp_path / "a.db3"), SourceOptions(), RealClock())


def test_a_message_of_another_kind_in_a_database_ends_it(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db3") as database:
        database.execute("CREATE TABLE topics(id, name, type, serialization_format)")
        database.execute("CREATE TABLE messages(id, topic_id, timestamp, data)")
        database.execute(f"INSERT INTO topics VALUES (1, '/a', '{IMAGE}', 'cdr')")
        rows = [(1, 1, START_NS, pictures(1)[0][1]), (2, 1, START_NS, "text")]
        database.executemany("INSERT INTO messages VALUES (?, ?, ?, ?)", rows)
    database.close()
    images, skipped = skips_of(tmp_path / "a.db3")
    assert len(images) == 1
    assert "str" in skipped["the rest"]
