"""A run as a recording: frames, masks and numbers in one MCAP file."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from ocl_edge import durable
from ocl_edge.bundle.manifest import Manifest
from ocl_edge.errors import MissingExtraError, OutputError, UsageError
from ocl_edge.images import ColourOverlay
from ocl_edge.masks import Mask
from ocl_edge_runtime.ros.definitions import DEFINITIONS
from ocl_edge_runtime.ros.messages import (
    COMPRESSED_IMAGE,
    DIAGNOSTICS,
    IMAGE,
    NUMBER,
    CompressedImage,
    Image,
    diagnostics_to_cdr,
    number_to_cdr,
)
from ocl_edge_runtime.session.frames import Frame, FrameResult, Header
from ocl_edge_runtime.sinks.base import Sink
from ocl_edge_runtime.sinks.headers import Headers, recorded_ns
from ocl_edge_runtime.sinks.told import numbers_of, values_of

JPEG_QUALITY = 90
SPACE = "/ocl_edge"


class McapSink(Sink):
    """Messages of ROS 2, with their definitions: Foxglove shows them, ``ros2 bag play`` plays them.

    Topics below ``/ocl_edge``: ``image`` and ``overlay`` (CompressedImage, JPEG), ``mask`` (Image of class
    indices, mono8 or mono16), ``diagnostics``, and a Float64 for every number of `numbers_of`. Classes and
    colours are metadata. Times are those of the frames' own messages, where they came in some.

    Args:
        path: of a new file; an older one is never written over.
        manifest: of the bundle.
        frame_s: as for `Headers`.

    Raises:
        UsageError: another suffix, or there is such a file.
        MissingExtraError: mcap is not installed.
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path, manifest: Manifest, frame_s: float | None) -> None:
        if path.suffix.lower() != ".mcap":
            raise UsageError(f"{path}: a recording's name ends with .mcap")
        if path.exists() or path.is_symlink():
            raise UsageError(f"{path} is there already; name another file, or remove it")
        writer = _library()
        self.path = path
        self._overlay = ColourOverlay([c.colour for c in manifest.classes])
        self._headers = Headers(frame_s)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = io.BufferedWriter(durable.open_for_lines(path, append=False))
        except OSError as error:
            raise OutputError(f"cannot write the recording {path}: {error.strerror}") from error
        self._writer: Any = writer(self._file)
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        classes = [{"name": c.name, "colour": c.colour} for c in manifest.classes]
        self._tried(lambda: self._writer.start("ros2", "ocl-edge"))
        self._tried(lambda: self._writer.add_metadata("ocl_edge", {"classes": json.dumps(classes)}))

    def emit(self, frame: Frame, mask: Mask) -> None:
        """Add a frame and its mask.

        Raises:
            OutputError: the disk is full.
        """
        header = self._headers.of(frame)
        shown = self._overlay.over(frame.image, mask)
        (height, width), encoding = mask.shape, f"mono{8 * mask.itemsize}"  # 16 bits from 256 classes on
        self._add("image", COMPRESSED_IMAGE, header, _jpeg(header, frame.image))
        bits = Image(header, height, width, encoding, 0, mask.itemsize * width, mask.tobytes())
        self._add("mask", IMAGE, header, bits.to_cdr())
        self._add("overlay", COMPRESSED_IMAGE, header, _jpeg(header, shown))
        self._tried(self._file.flush)

    def told(self, frame: Frame, result: FrameResult) -> None:
        """Add what became of it.

        Raises:
            OutputError: the disk is full.
        """
        header = self._headers.of(frame)
        for name, value in numbers_of(result).items():
            self._add(name, NUMBER, header, number_to_cdr(value))
        said = diagnostics_to_cdr(header, not result.late, str(result.verdict), values_of(result))
        self._add("diagnostics", DIAGNOSTICS, header, said)

    def close(self) -> None:
        """Finish the file. Calling it twice is fine.

        Raises:
            OutputError: the disk is full.
        """
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            self._tried(writer.finish)
            self._tried(self._file.flush)
        finally:
            self._tried(self._file.close)

    def _add(self, name: str, type_name: str, header: Header, message: bytes) -> None:
        time_ns = recorded_ns(header)
        channel = self._channel(name, type_name)
        self._tried(lambda: self._writer.add_message(channel, time_ns, message, time_ns))

    def _channel(self, name: str, type_name: str) -> int:
        if name not in self._channels:
            if type_name not in self._schemas:
                text = DEFINITIONS[type_name].encode()
                self._schemas[type_name] = self._writer.register_schema(type_name, "ros2msg", text)
            schema = self._schemas[type_name]
            self._channels[name] = self._writer.register_channel(f"{SPACE}/{name}", "cdr", schema)
        return self._channels[name]

    def _tried(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            raise OutputError(f"cannot write the recording {self.path}: {error.strerror or error}") from error


def _jpeg(header: Header, pixels: NDArray[np.uint8]) -> bytes:
    content = io.BytesIO()
    Pillow.fromarray(pixels).save(content, "JPEG", quality=JPEG_QUALITY)
    return CompressedImage(header, "jpeg", content.getvalue()).to_cdr()


def _library() -> Any:
    try:
        from mcap.writer import Writer
    except ModuleNotFoundError as error:
        raise MissingExtraError("mcap", "mcap", "writing a recording") from error
    return Writer
