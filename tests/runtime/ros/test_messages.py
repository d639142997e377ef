from __future__ import annotations

import contextlib

import numpy as np
import pytest

from ocl_edge.errors import FrameError
from ocl_edge_runtime.ros.messages import (
    COMPRESSED_IMAGE,
    DIAGNOSTICS,
    IMAGE,
    NUMBER,
    CompressedImage,
    Image,
    diagnostics_to_cdr,
    number_to_cdr,
    read_image,
)
from ocl_edge_runtime.session.frames import Header
from tests.doubles.ros_messages import ROS, cdr, image_message, picture

HEADER = Header(1_700_000_000_123_456_789, "front/left")


@pytest.mark.parametrize("little", [True, False])
def test_both_orders_of_bytes_are_read(little: bool) -> None:
    read = read_image(IMAGE, cdr(image_message(picture(0).reshape(24, -1), stamp_ns=HEADER.stamp_ns), little))
    assert isinstance(read, Image)
    assert (read.height, read.width, read.step, read.encoding) == (24, 32, 96, "rgb8")
    assert read.header == Header(HEADER.stamp_ns, "camera")
    assert bytes(read.data) == picture(0).tobytes()


def test_ros_reads_what_is_written() -> None:
    sent = Image(HEADER, 2, 3, "mono8", 0, 3, bytes(range(6)))
    read = ROS.deserialize_cdr(sent.to_cdr(), IMAGE)
    assert (read.header.stamp.sec, read.header.stamp.nanosec) == divmod(HEADER.stamp_ns, 10**9)
    assert (read.header.frame_id, read.encoding, read.height, read.width) == ("front/left", "mono8", 2, 3)
    assert read.data.tolist() == [0, 1, 2, 3, 4, 5]
    packed = ROS.deserialize_cdr(CompressedImage(HEADER, "png", b"abc").to_cdr(), COMPRESSED_IMAGE)
    assert (packed.format, packed.data.tobytes(), packed.header.frame_id) == ("png", b"abc", "front/left")
    assert ROS.deserialize_cdr(number_to_cdr(0.25), NUMBER).data == 0.25
    told = ROS.deserialize_cdr(diagnostics_to_cdr(HEADER, False, "late", {"a": "1", "bé": ""}), DIAGNOSTICS)
    (status,) = told.status
    assert (status.level, status.name, status.message) == (1, "ocl_edge", "late")
    assert [(pair.key, pair.value) for pair in status.values] == [("a", "1"), ("bé", "")]


@pytest.mark.parametrize("stamp_ns", [0, -1, 2**31 * 10**9, 10**30])
def test_a_stamp_beyond_what_ros_can_say_is_no_reason_to_fail(stamp_ns: int) -> None:
    read = ROS.deserialize_cdr(Image(Header(stamp_ns, ""), 1, 1, "mono8", 0, 1, b"x").to_cdr(), IMAGE)
    assert -(2**31) <= read.header.stamp.sec < 2**31


def test_a_message_cut_off_anywhere_is_a_frame_error() -> None:
    whole = cdr(image_message(picture(0).reshape(24, -1)))
    for length in [*range(60), len(whole) - 1]:
        with pytest.raises(FrameError):
            read_image(IMAGE, whole[:length])


@pytest.mark.parametrize("at", range(4, 60, 4))
def test_a_hostile_length_allocates_nothing(at: int) -> None:
    whole = bytearray(cdr(image_message(picture(0).reshape(24, -1))))
    whole[at : at + 4] = b"\xff\xff\xff\xff"
    with contextlib.suppress(FrameError):
        assert len(read_image(IMAGE, bytes(whole)).data) <= len(whole)


@pytest.mark.parametrize("kind", [b"\x00\x03\x00\x00", b"\x00\x09\x00\x00", b"\x01\x01\x00\x00", b"ros1"])
def test_another_encoding_is_refused(kind: bytes) -> None:
    whole = cdr(image_message(np.zeros((2, 6), np.uint8)))
    with pytest.raises(FrameError, match="CDR"):
        read_image(IMAGE, kind + whole[4:])
