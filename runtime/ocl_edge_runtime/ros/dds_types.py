"""The message types of ROS 2 as Cyclone DDS knows them, by the names that ROS 2 gives them on the wire.

Cyclone's Python makes an object of every byte of an image, which takes a second for a frame of 1080p. So a
sample here is the message's CDR as it is; its fields only tell the other side what the type is made of.
"""
# Cyclone evaluates the annotations of fields: they are written without `from __future__ import annotations`.
# mypy: disable-error-code="type-arg"

from dataclasses import dataclass
from typing import Any, TypeVar

from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import byte, int32, sequence, uint8, uint32

from ocl_edge_runtime.ros.messages import COMPRESSED_IMAGE, DIAGNOSTICS, IMAGE

T = TypeVar("T", bound=type[Any])


def _as_it_is(kind: T) -> T:
    """A type whose samples are their own CDR: what Cyclone calls to pack and unpack gives it back."""

    def __init__(self: Any, cdr: bytes) -> None:  # noqa: N807
        self.cdr = cdr

    def serialize(self: Any, *_: Any, **__: Any) -> bytes:
        return bytes(self.cdr)

    def deserialize(cls: type[Any], data: bytes, *_: Any, **__: Any) -> Any:
        return cls(data)

    def deserialize_key(cls: type[Any], *_: Any, **__: Any) -> None:
        """Of a publisher that leaves there is no message."""

    kind.__init__, kind.serialize = __init__, serialize
    kind.deserialize, kind.deserialize_key = classmethod(deserialize), classmethod(deserialize_key)
    return kind


@dataclass
class Time_(IdlStruct, typename="builtin_interfaces::msg::dds_::Time_"):  # noqa: N801
    sec: int32
    nanosec: uint32


@dataclass
class Header_(IdlStruct, typename="std_msgs::msg::dds_::Header_"):  # noqa: N801
    stamp: Time_
    frame_id: str


@dataclass
class KeyValue_(IdlStruct, typename="diagnostic_msgs::msg::dds_::KeyValue_"):  # noqa: N801
    key: str
    value: str


@dataclass
class DiagnosticStatus_(IdlStruct, typename="diagnostic_msgs::msg::dds_::DiagnosticStatus_"):  # noqa: N801
    level: byte
    name: str
    message: str
    hardware_id: str
    values: sequence[KeyValue_]


@_as_it_is
class Image_(IdlStruct, typename="sensor_msgs::msg::dds_::Image_"):  # noqa: N801
    header: Header_
    height: uint32
    width: uint32
    encoding: str
    is_bigendian: uint8
    step: uint32
    data: sequence[uint8]


@_as_it_is
class CompressedImage_(IdlStruct, typename="sensor_msgs::msg::dds_::CompressedImage_"):  # noqa: N801
    header: Header_
    format: str
    data: sequence[uint8]


@_as_it_is
class DiagnosticArray_(IdlStruct, typename="diagnostic_msgs::msg::dds_::DiagnosticArray_"):  # noqa: N801
    header: Header_
    status: sequence[DiagnosticStatus_]


TYPES: dict[str, type[Any]] = {
    IMAGE: Image_,
    COMPRESSED_IMAGE: CompressedImage_,
    DIAGNOSTICS: DiagnosticArray_,
}
"""ROS's name -> Cyclone's type."""
