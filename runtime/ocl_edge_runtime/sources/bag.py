"""Images of a recording of messages: an MCAP file, or a directory as ``ros2 bag record`` leaves it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from statistics import median

from ocl_edge.errors import SourceError, UsageError
from ocl_edge.images import in_natural_order
from ocl_edge_runtime.clock import Clock
from ocl_edge_runtime.ros.messages import IMAGES, NS
from ocl_edge_runtime.sources.bag_topics import BagFile, Message, Topic
from ocl_edge_runtime.sources.base import Arrival
from ocl_edge_runtime.sources.mcap_file import ZSTD_MAGIC, McapFile, decompressed
from ocl_edge_runtime.sources.ros_arrival import arrival_of
from ocl_edge_runtime.sources.sqlite_bag import LARGEST_MESSAGE, SqliteBag

SUFFIXES = (".mcap", ".db3")
DESCRIPTION = "metadata.yaml"
TIMED = 16
"""So many messages tell how fast a topic is."""

NAMED_AT_MOST = 20


def bag_of(text: str) -> tuple[Path, str | None] | None:
    """Path and topic of ``PATH`` or ``PATH#TOPIC``, if that is a recording; else None."""
    path, mark, topic = text.rpartition("#")
    for place, chosen in ((Path(text), None), (Path(path), topic)) if mark else ((Path(text), None),):
        if (place.is_file() and place.suffix.lower() in SUFFIXES) or (place / DESCRIPTION).is_file():
            return place, chosen
    return None


class BagReader:
    """One image topic of a recording.

    Args:
        path: of a file, or of a directory of files in the order of their names.
        topic: by name; None: the only one that has images.
        clock: of ``captured_at``.

    Raises:
        UsageError: there is no such topic, it has no images, or several have and none is named.
        SourceError: the recording cannot be read, or holds no image.
    """

    def __init__(self, path: Path, topic: str | None, clock: Clock) -> None:
        self.name = str(path)
        self.tells_times = True
        self._clock = clock
        self._files = _open(path)
        try:
            self.topic = _chosen(path, [t for file in self._files for t in file.topics()], topic)
            times = self._first_times()
        except BaseException:
            self.close()
            raise
        steps = [later - earlier for earlier, later in pairwise(times) if later > earlier]
        self.total = self.topic.count
        self.rate: float | None = NS / median(steps) if steps else None
        self._first_ns = times[0]

    def __iter__(self) -> Iterator[Arrival]:
        shown_at = 0.0
        for message in self._messages():
            # a clock that was set back while recording: stream time stands still until it has caught up
            shown_at = max(shown_at, (message.recorded_ns - self._first_ns) / NS)
            arrival = arrival_of(
                self.topic.type, self._plain(message), self._clock.now(), message.recorded_ns
            )
            yield replace(arrival, shown_at=shown_at)

    def close(self) -> None:
        for file in self._files:
            file.close()

    def _first_times(self) -> list[int]:
        """When the first messages were recorded."""
        times: list[int] = []
        why = "it has none"
        try:
            for message in islice(self._messages(), TIMED):
                times.append(message.recorded_ns)
        except SourceError as error:
            why = str(error)  # after a first message, whoever plays the recording says so
        if not times:
            raise SourceError(f"{self.name}: no message of {self.topic.name} can be read: {why}")
        return times

    def _messages(self) -> Iterator[Message]:
        for file in self._files:
            yield from file.messages(self.topic.name)

    def _plain(self, message: Message) -> bytes | memoryview:
        """Its bytes, unpacked where ROS 2 has packed each message by itself."""
        data = memoryview(message.data)
        if data[:4] != ZSTD_MAGIC:
            return data
        try:
            return decompressed("zstd", data, LARGEST_MESSAGE, Path(self.name))
        except SourceError:
            return b""


def _open(path: Path) -> list[BagFile]:
    paths = [path]
    if path.is_dir():
        paths = in_natural_order(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        packed = [file.name for file in path.iterdir() if file.suffix == ".zstd"]
        if not paths:
            how = f": unpack {packed[0]} first (zstd -d)" if packed else f" ({', '.join(SUFFIXES)})"
            raise SourceError(f"{path} holds no file of a recording{how}")
    files: list[BagFile] = []
    try:
        for each in paths:
            files.append(McapFile(each) if each.suffix.lower() == ".mcap" else SqliteBag(each))
    except SourceError:
        for file in files:
            file.close()
        raise
    return files


def _chosen(path: Path, found: list[Topic], name: str | None) -> Topic:
    """The topic to read; of several files their parts are one topic."""
    topics: dict[str, Topic] = {}
    for topic in found:
        before = topics.get(topic.name, replace(topic, count=0))
        known = before.count is not None and topic.count is not None
        topics[topic.name] = replace(topic, count=(before.count or 0) + (topic.count or 0) if known else None)
    images = {n: t for n, t in topics.items() if t.type in IMAGES and t.encoding == "cdr"}
    if name is not None and name in topics and name not in images:
        topic = topics[name]
        raise UsageError(
            f"{path}: {name} holds {topic.type or 'nothing known'} in {topic.encoding or 'no encoding'}, "
            f"expected {' or '.join(IMAGES)} in cdr{_listed(images, '; images are on ')}"
        )
    if name is not None and name not in topics:
        raise UsageError(f"{path} has no topic {name}{_listed(images, '; images are on ')}")
    if name is None and len(images) > 1:
        raise UsageError(
            f"{path} has images on several topics, name one: {path}#TOPIC{_listed(images, '; ')}"
        )
    if not images:
        raise UsageError(f"{path} has no images of ROS 2{_listed(topics, ': it holds ')}")
    return images[name] if name is not None else next(iter(images.values()))


def _listed(topics: dict[str, Topic], before: str) -> str:
    shown = [f"{t.name} ({t.type or 'unknown'})" for t in topics.values()][:NAMED_AT_MOST]
    more = [f"{len(topics) - NAMED_AT_MOST} more"] if len(topics) > NAMED_AT_MOST else []
    return before + ", ".join(shown + more) if shown else ""
