"""Masks as topics of ROS 2."""

from __future__ import annotations

from contextlib import suppress

from ocl_edge.errors import OutputError, UsageError
from ocl_edge.images import Colour, ColourOverlay
from ocl_edge.masks import Mask
from ocl_edge_runtime.ros.messages import DIAGNOSTICS, IMAGE, Image, diagnostics_to_cdr
from ocl_edge_runtime.ros.topics import Node, Publisher, join_graph
from ocl_edge_runtime.session.frames import Frame, FrameResult, Header
from ocl_edge_runtime.sinks.base import Sink
from ocl_edge_runtime.sinks.headers import Headers
from ocl_edge_runtime.sinks.told import values_of

BESIDE = ("overlay", "diagnostics")
"""Last names of the topics beside the mask's."""


class TopicSink(Sink):
    """``/ocl_edge/mask``: class indices, mono8 or mono16, with the header of the frame's own message.

    Beside it are ``/ocl_edge/overlay`` (rgb8, sent where somebody listens) and ``/ocl_edge/diagnostics``.
    A message that cannot be sent is counted in `left_out`; the run goes on.

    Args:
        topic: of the masks.
        palette: RGB of each class, 0 to 255.
        frame_s: as for `Headers`.
        node: that publishes; None joins ROS's graph.

    Raises:
        UsageError: the topic has the name of one beside it.
        MissingExtraError: neither rclpy nor cyclonedds is installed.
    """

    def __init__(
        self, topic: str, palette: list[Colour], frame_s: float | None, node: Node | None = None
    ) -> None:
        space, _, name = topic.rpartition("/")
        if name in BESIDE:
            raise UsageError(f"--sink ros2:{topic}: {name} is the topic beside the mask's; name it otherwise")
        self._overlay = ColourOverlay(palette)
        self._headers = Headers(frame_s)
        self._node: Node | None = node or join_graph()
        self._masks = self._node.advertise(topic, IMAGE)
        self._overlays = self._node.advertise(f"{space}/overlay", IMAGE)
        self._diagnostics = self._node.advertise(f"{space}/diagnostics", DIAGNOSTICS)

    def emit(self, frame: Frame, mask: Mask) -> None:
        header = self._headers.of(frame)
        try:
            _publish_pixels(self._masks, header, mask)
            if self._overlays.listeners():
                _publish_pixels(self._overlays, header, self._overlay.over(frame.image, mask))
        except OutputError as error:
            self.left_out, self.trouble = self.left_out + 1, str(error)

    def told(self, frame: Frame, result: FrameResult) -> None:
        said = "late" if result.late else "in time"
        message = diagnostics_to_cdr(self._headers.of(frame), not result.late, said, values_of(result))
        with suppress(OutputError):  # whoever lost a mask has counted it
            self._diagnostics.publish(message)

    def close(self) -> None:
        node, self._node = self._node, None
        if node is not None:
            del self._masks, self._overlays, self._diagnostics
            node.close()


def _publish_pixels(publisher: Publisher, header: Header, pixels: Mask) -> None:
    height, width, channels = (*pixels.shape, 1)[:3]
    encoding = f"mono{8 * pixels.itemsize}" if channels == 1 else "rgb8"
    message = Image(header, height, width, encoding, 0, width * channels * pixels.itemsize, pixels.tobytes())
    publisher.publish(message.to_cdr())
