"""The definitions of messages that a recording carries along, so that Foxglove and others can read it."""

from __future__ import annotations

from ocl_edge_runtime.ros.messages import COMPRESSED_IMAGE, DIAGNOSTICS, IMAGE, NUMBER

_TIME = "int32 sec\nuint32 nanosec\n"
_HEADER = "builtin_interfaces/Time stamp\nstring frame_id\n"
_IMAGE = (
    "std_msgs/Header header\nuint32 height\nuint32 width\nstring encoding\n"
    "uint8 is_bigendian\nuint32 step\nuint8[] data\n"
)
_COMPRESSED = "std_msgs/Header header\nstring format\nuint8[] data\n"
_KEY_VALUE = "string key\nstring value\n"
_STATUS = (
    "byte OK=0\nbyte WARN=1\nbyte ERROR=2\nbyte STALE=3\n"
    "byte level\nstring name\nstring message\nstring hardware_id\nKeyValue[] values\n"
)


def _with_parts(text: str, **parts: str) -> str:
    """A definition, followed by those of the types that it is made of, as rosbag2 writes them."""
    rest = (f"{80 * '='}\nMSG: {name.replace('__', '/')}\n{part}" for name, part in parts.items())
    return text + "".join(rest)


_OF_HEADER = {"std_msgs__Header": _HEADER, "builtin_interfaces__Time": _TIME}

DEFINITIONS = {
    IMAGE: _with_parts(_IMAGE, **_OF_HEADER),
    COMPRESSED_IMAGE: _with_parts(_COMPRESSED, **_OF_HEADER),
    NUMBER: "float64 data\n",
    DIAGNOSTICS: _with_parts(
        "std_msgs/Header header\nDiagnosticStatus[] status\n",
        **_OF_HEADER,
        diagnostic_msgs__DiagnosticStatus=_STATUS,
        diagnostic_msgs__KeyValue=_KEY_VALUE,
    ),
}
"""Type -> its definition in ROS's own language (``ros2msg``)."""
