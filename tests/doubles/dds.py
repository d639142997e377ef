"""ROS 2's graph on the loopback: other processes that publish or listen, by Cyclone's own Python types.

They pack and unpack through Cyclone, not through our CDR. Run as a program:

    python -m tests.doubles.dds publish TOPIC ENCODING COUNT
    python -m tests.doubles.dds listen TOPIC SECONDS COUNT  writes what it heard as JSON lines
"""

from dataclasses import dataclass
from json import dumps
from os import environ
from sys import argv
from time import monotonic, sleep

import numpy as np
from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import byte, int32, sequence, uint8, uint32
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

LOOPBACK = """
<CycloneDDS><Domain>
  <General>
    <Interfaces><NetworkInterface name="lo" multicast="false"/></Interfaces>
    <AllowMulticast>false</AllowMulticast>
    <MaxMessageSize>65500B</MaxMessageSize><FragmentSize>65000B</FragmentSize>
  </General>
  <Internal><SocketReceiveBufferSize min="4MB"/></Internal>
  <Discovery>
    <ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>20</MaxAutoParticipantIndex>
    <Peers><Peer address="127.0.0.1"/></Peers>
    <SPDPInterval>200ms</SPDPInterval>
  </Discovery>
</Domain></CycloneDDS>"""
"""For ``CYCLONEDDS_URI``: everything stays on this machine, without multicast."""

HEIGHT, WIDTH = 12, 16
STAMP = (1_700_000_000, 123_456_789)
QOS = Qos(Policy.Reliability.BestEffort, Policy.History.KeepLast(1))


@dataclass
class Time(IdlStruct, typename="builtin_interfaces::msg::dds_::Time_"):
    sec: int32
    nanosec: uint32


@dataclass
class Header(IdlStruct, typename="std_msgs::msg::dds_::Header_"):
    stamp: Time
    frame_id: str


@dataclass
class Image(IdlStruct, typename="sensor_msgs::msg::dds_::Image_"):
    header: Header
    height: uint32
    width: uint32
    encoding: str
    is_bigendian: uint8
    step: uint32
    data: sequence[uint8]


@dataclass
class CompressedImage(IdlStruct, typename="sensor_msgs::msg::dds_::CompressedImage_"):
    header: Header
    format: str
    data: sequence[uint8]


@dataclass
class KeyValue(IdlStruct, typename="diagnostic_msgs::msg::dds_::KeyValue_"):
    key: str
    value: str


@dataclass
class DiagnosticStatus(IdlStruct, typename="diagnostic_msgs::msg::dds_::DiagnosticStatus_"):
    level: byte
    name: str
    message: str
    hardware_id: str
    values: sequence[KeyValue]


@dataclass
class DiagnosticArray(IdlStruct, typename="diagnostic_msgs::msg::dds_::DiagnosticArray_"):
    header: Header
    status: sequence[DiagnosticStatus]


@dataclass
class String(IdlStruct, typename="std_msgs::msg::dds_::String_"):
    data: str


def pixels(index: int) -> np.ndarray:
    """uint8 [HEIGHT, WIDTH, 3], grey and even along pairs, so that every encoding can say it."""
    grey = np.random.default_rng(index).integers(40, 200, (HEIGHT // 2, WIDTH // 2), dtype=np.uint8)
    return np.repeat(np.kron(grey, np.ones((2, 2), np.uint8))[..., None], 3, axis=2)


def rows_of(encoding: str, index: int) -> tuple[np.ndarray, int]:
    """Bytes of the rows as an encoding has them, and whether numbers are big-endian."""
    rgb = pixels(index)
    grey, high = rgb[..., 0], rgb[..., 0].astype(np.uint16) * 256
    if encoding in ("rgba8", "bgra8"):
        return np.dstack([rgb, grey]).reshape(HEIGHT, -1), 0
    if encoding == "mono16-big":
        return high.astype(">u2").view(np.uint8), 1
    if encoding == "mono16":
        return high.astype("<u2").view(np.uint8), 0
    if encoding in ("yuv422", "yuv422_yuy2"):
        luma = np.round(16 + grey * (219 / 255)).astype(np.uint8)
        neutral = np.full_like(luma, 128)
        pair = (neutral, luma) if encoding == "yuv422" else (luma, neutral)
        return np.dstack(pair).reshape(HEIGHT, -1), 0
    if encoding == "mono8" or encoding.startswith("bayer"):
        return grey, 0
    return rgb.reshape(HEIGHT, -1), 0


def image(encoding: str, index: int) -> Image:
    rows, bigendian = rows_of(encoding, index)
    padded = np.pad(rows, ((0, 0), (0, 5)), constant_values=77)
    header = Header(Time(STAMP[0], STAMP[1] + index), "front")
    name = encoding.removesuffix("-big")
    return Image(header, HEIGHT, WIDTH, name, bigendian, padded.shape[1], padded.ravel().tolist())


def publish(topic: str, encoding: str, count: int) -> None:
    kinds = {"text": String, "jpeg": CompressedImage}
    kind = kinds.get(encoding, Image)
    participant = DomainParticipant(int(environ["ROS_DOMAIN_ID"]))
    writer = DataWriter(participant, Topic(participant, "rt" + topic, kind), QOS)
    for index in range(count):
        if kind is String:
            writer.write(String("no image"))
        elif kind is CompressedImage:
            writer.write(CompressedImage(Header(Time(*STAMP), "front"), "jpeg", list(jpeg(index))))
        else:
            writer.write(image(encoding, index))
        sleep(0.05)


def jpeg(index: int) -> bytes:
    from io import BytesIO

    from PIL import Image as Pillow

    content = BytesIO()
    Pillow.fromarray(pixels(index)).save(content, "JPEG", quality=95)
    return content.getvalue()


def listen(topic: str, seconds: float, count: int) -> None:
    """So many messages, or as long."""
    kind = DiagnosticArray if topic.endswith("diagnostics") else Image
    participant = DomainParticipant(int(environ["ROS_DOMAIN_ID"]))
    reader = DataReader(participant, Topic(participant, "rt" + topic, kind), QOS)
    give_up_at = monotonic() + seconds
    while monotonic() < give_up_at and count:
        for sample in reader.take(N=1):
            if hasattr(sample, "header"):
                print(dumps(_told(sample)), flush=True)
                count -= 1
        sleep(0.01)


def _told(sample: object) -> dict[str, object]:
    told: dict[str, object] = {
        "stamp": [sample.header.stamp.sec, sample.header.stamp.nanosec],  # type: ignore[attr-defined]
        "frame_id": sample.header.frame_id,  # type: ignore[attr-defined]
    }
    if isinstance(sample, DiagnosticArray):
        (status,) = sample.status
        return told | {"level": status.level, "values": {pair.key: pair.value for pair in status.values}}
    return told | {
        "size": [sample.height, sample.width, sample.step],  # type: ignore[attr-defined]
        "encoding": sample.encoding,  # type: ignore[attr-defined]
        "data": list(sample.data),  # type: ignore[attr-defined]
    }


if __name__ == "__main__":
    if argv[1] == "publish":
        publish(argv[2], argv[3], int(argv[4]))
    else:
        listen(argv[2], float(argv[3]), int(argv[4]))
