"""Messages of an MCAP file, read record by record.

After the specification at mcap.dev. A file may be cut off, damaged or made to harm: nothing larger than the
file, or than `LARGEST_CHUNK`, is ever allocated, records that are not needed are passed over, and the
definitions of messages are not looked at.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from ocl_edge.errors import MissingExtraError, SourceError
from ocl_edge.given_files import open_given, reason_of
from ocl_edge_runtime.sources.bag_topics import Message, Topic

MAGIC = b"\x89MCAP0\r\n"
RECORD_HEAD = struct.Struct("<BQ")
FOOTER_BYTES = RECORD_HEAD.size + 20 + len(MAGIC)
LARGEST_CHUNK = 1 << 28
"""Bytes of a chunk or message, unpacked. An image of 8192x8192 has 201 million."""

LARGEST_SUMMARY = 1 << 26
FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, STATISTICS, DATA_END = 2, 3, 4, 5, 6, 11, 15
MESSAGE_HEAD = struct.Struct("<HIQQ")
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class McapFile:
    """One MCAP file.

    Args:
        path: of the file.

    Raises:
        SourceError: it cannot be opened, or is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file: BinaryIO = open_given(path)
            self._size = os.fstat(self._file.fileno()).st_size
            begins_with = self._file.read(len(MAGIC))
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {reason_of(error)}") from error
        if begins_with != MAGIC:
            self._file.close()
            raise SourceError(f"{path} is no MCAP file")
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, Topic] = {}

    def topics(self) -> list[Topic]:
        """All of them: from the summary at the end; where that is missing, from the whole file."""
        self._schemas, self._channels = {}, {}
        counts = self._read_summary()
        if not self._channels:
            counts = {}
            with suppress(SourceError):  # cut off: whoever reads the messages says so
                for channel, _, _ in self._messages():
                    counts[channel] = counts.get(channel, 0) + 1
        return [Topic(t.name, t.type, t.encoding, counts.get(number)) for number, t in self._channels.items()]

    def messages(self, topic: str) -> Iterator[Message]:
        """Of one topic, in the order in which they were written.

        Raises:
            SourceError: the file is damaged or cut off there.
        """
        for channel, logged_ns, data in self._messages():
            if self._channels[channel].name == topic:
                yield Message(logged_ns, data)

    def close(self) -> None:
        self._file.close()

    def _messages(self) -> Iterator[tuple[int, int, memoryview]]:
        """Channel, time, data."""
        self._file.seek(len(MAGIC))
        while True:
            kind, length = self._head()
            if kind in (DATA_END, FOOTER):
                return
            if kind == CHUNK:
                yield from self._in_chunk(unpacked(self._content(length), self.path))
            elif kind in (SCHEMA, CHANNEL, MESSAGE):
                yield from self._taken(kind, memoryview(self._content(length)))
            else:
                self._check_length(length)
                self._file.seek(length, os.SEEK_CUR)

    def _in_chunk(self, chunk: memoryview) -> Iterator[tuple[int, int, memoryview]]:
        at = 0
        while at < len(chunk):
            if at + RECORD_HEAD.size > len(chunk):
                raise self._damaged("a chunk ends within a record")
            kind, length = RECORD_HEAD.unpack_from(chunk, at)
            at += RECORD_HEAD.size
            content = chunk[at : at + length]
            if len(content) < length:
                raise self._damaged("a chunk ends within a record")
            at += length
            yield from self._taken(kind, content)

    def _taken(self, kind: int, content: memoryview) -> Iterator[tuple[int, int, memoryview]]:
        """A message as it is; schemas and channels are remembered."""
        try:
            if kind == SCHEMA:
                self._schemas[struct.unpack_from("<H", content)[0]] = _text(content, 2)[0]
            elif kind == CHANNEL:
                number, schema = struct.unpack_from("<HH", content)
                name, at = _text(content, 4)
                encoding, _ = _text(content, at)
                self._channels[number] = Topic(name, self._schemas.get(schema, ""), encoding, None)
            elif kind == MESSAGE:
                channel, _, logged_ns, _ = MESSAGE_HEAD.unpack_from(content)
                if channel not in self._channels:
                    raise self._damaged(f"a message is on channel {channel}, which was not announced")
                yield channel, logged_ns, content[MESSAGE_HEAD.size :]
        except struct.error as error:
            raise self._damaged("a record is too short") from error

    def _read_summary(self) -> dict[int, int]:
        """Messages a channel, by the summary; empty where there is none."""
        counts: dict[int, int] = {}
        try:
            self._file.seek(max(0, self._size - FOOTER_BYTES))
            footer = self._file.read(FOOTER_BYTES)
            kind, _, begins_at = struct.unpack_from("<BQQ", footer)
            if footer[-len(MAGIC) :] != MAGIC or kind != FOOTER or not 0 < begins_at < self._size:
                return {}
            self._file.seek(begins_at)
            while (head := self._head())[0] != FOOTER and head[1] <= LARGEST_SUMMARY:
                content = memoryview(self._content(head[1]))
                if head[0] == STATISTICS:
                    counts |= dict(struct.iter_unpack("<HQ", content[46:]))
                else:
                    list(self._taken(head[0], content) if head[0] != MESSAGE else ())
        except (SourceError, struct.error):
            self._channels = {}
        return counts

    def _head(self) -> tuple[int, int]:
        head = self._file.read(RECORD_HEAD.size)
        if len(head) < RECORD_HEAD.size:
            raise self._damaged("it was cut off")
        kind, length = RECORD_HEAD.unpack(head)
        return kind, length

    def _content(self, length: int) -> bytes:
        self._check_length(length)
        if length > LARGEST_CHUNK:
            raise self._damaged(f"a record has {length:,} bytes, at most {LARGEST_CHUNK:,} are read")
        return self._file.read(length)

    def _check_length(self, length: int) -> None:
        if length > self._size - self._file.tell():
            raise self._damaged("it was cut off")

    def _damaged(self, why: str) -> SourceError:
        return SourceError(f"{self.path} is damaged: {why}")


def unpacked(record: bytes, path: Path) -> memoryview:
    """The records of a chunk.

    Raises:
        SourceError: it is damaged, or packed in an unknown way.
    """
    try:
        _, _, size, _ = struct.unpack_from("<QQQI", record)
        compression, at = _text(memoryview(record), 28)
        (packed_size,) = struct.unpack_from("<Q", record, at)
    except struct.error as error:
        raise SourceError(f"{path} is damaged: a chunk is too short") from error
    packed = memoryview(record)[at + 8 : at + 8 + packed_size]
    if not compression:
        return packed
    if size > LARGEST_CHUNK:
        raise SourceError(f"{path} is damaged: a chunk claims {size:,} bytes, at most {LARGEST_CHUNK:,}")
    data = decompressed(compression, packed, size, path)
    if len(data) != size:
        raise SourceError(f"{path} is damaged: a chunk of {size:,} bytes unpacks to others")
    return memoryview(data)


def decompressed(compression: str, packed: memoryview, most: int, path: Path) -> bytes:
    """At most one byte more than ``most``, whatever the data claim.

    Raises:
        MissingExtraError: the library is not installed.
        SourceError: damaged, or another compression than zstd and lz4.
    """
    try:
        if compression == "zstd":
            import zstandard

            with zstandard.ZstdDecompressor(max_window_size=LARGEST_CHUNK).stream_reader(packed) as reader:
                return bytes(reader.read(most + 1))
        if compression == "lz4":
            import lz4.frame

            return bytes(lz4.frame.LZ4FrameDecompressor().decompress(packed, max_length=most + 1))
    except ModuleNotFoundError as error:
        raise MissingExtraError("mcap", "mcap", "reading a compressed recording") from error
    except Exception as error:  # both raise whatever damaged data make them stumble over
        raise SourceError(f"{path} is damaged: a chunk cannot be unpacked: {error}") from error
    raise SourceError(f"{path} is compressed by {compression!r}; zstd and lz4 are read")


def _text(content: memoryview, at: int) -> tuple[str, int]:
    """A string, and where it ends."""
    (length,) = struct.unpack_from("<I", content, at)
    end = at + 4 + length
    if end > len(content):
        raise struct.error("a text is longer than its record")
    return bytes(content[at + 4 : end]).decode("utf-8", "replace"), end
