from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from ocl_edge.errors import FrameError
from ocl_edge_runtime.ros.messages import COMPRESSED_IMAGE, IMAGE, read_image
from ocl_edge_runtime.ros.pixels import ENCODINGS, pixels_of, pixels_of_compressed
from tests.doubles.ros_messages import START_NS, cdr, compressed_message, image_message, picture

HEIGHT, WIDTH = 6, 10
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY = RGB[..., 1]


def message(rows: np.ndarray, encoding: str, width: int = WIDTH, bigendian: int = 0, padding: int = 7) -> Any:
    """Through CDR and back, rows padded by bytes that are not zero."""
    flat = rows.reshape(len(rows), -1)
    padded = np.pad(flat, ((0, 0), (0, padding)), constant_values=0x5A)
    sent = image_message(padded, encoding, bigendian=bigendian, width=width)
    return read_image(IMAGE, cdr(sent))


def of_16_bits(pixels: np.ndarray, order: str) -> np.ndarray:
    """Upper byte the pixel, lower byte noise, in an order of bytes."""
    values = (
        pixels.astype(np.uint16) * 256 + np.arange(pixels.size, dtype=np.uint16).reshape(pixels.shape) % 251
    )
    return values.astype(f"{order}u2").view(np.uint8)


@pytest.mark.parametrize("padding", [0, 7])
@pytest.mark.parametrize(
    ("encoding", "rows"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[..., ::-1]),
        ("8UC3", RGB[..., ::-1]),
        ("rgba8", np.dstack([RGB, 255 - GREY])),
        ("bgra8", np.dstack([RGB[..., ::-1], 255 - GREY])),
        ("8UC4", np.dstack([RGB[..., ::-1], 255 - GREY])),
    ],
)
def test_the_order_of_colours_is_the_encodings(encoding: str, rows: np.ndarray, padding: int) -> None:
    assert np.array_equal(pixels_of(message(rows, encoding, padding=padding)), RGB)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_becomes_three_equal_channels(encoding: str) -> None:
    assert np.array_equal(pixels_of(message(GREY, encoding)), np.dstack([GREY] * 3))


@pytest.mark.parametrize(("order", "bigendian"), [("<", 0), (">", 1)])
def test_sixteen_bits_are_read_in_both_orders_of_bytes(order: str, bigendian: int) -> None:
    grey = pixels_of(message(of_16_bits(GREY, order), "mono16", bigendian=bigendian))
    assert np.array_equal(grey, np.dstack([GREY] * 3))
    assert np.array_equal(pixels_of(message(of_16_bits(GREY, order), "16UC1", bigendian=bigendian)), grey)
    coloured = pixels_of(message(of_16_bits(RGB[..., ::-1], order), "bgr16", bigendian=bigendian))
    assert np.array_equal(coloured, RGB)


@pytest.mark.parametrize(
    ("encoding", "format_"),
    [("yuv422", "uyvy422"), ("uyvy", "uyvy422"), ("yuv422_yuy2", "yuyv422"), ("yuyv", "yuyv422")],
)
def test_yuv_has_the_colours_that_ffmpeg_sees(encoding: str, format_: str) -> None:
    rows = np.random.default_rng(1).integers(16, 236, (16, 64), dtype=np.uint8)
    rows = np.repeat(rows.reshape(16, 16, 4), 2, axis=0).reshape(32, 64)
    frame = av.VideoFrame(32, 32, format_)
    frame.planes[0].update(np.pad(rows, ((0, 0), (0, frame.planes[0].line_size - 64))).tobytes())
    seen = frame.to_ndarray(format="rgb24", src_colorspace="ITU601").astype(int)
    ours = pixels_of(message(rows, encoding, width=32)).astype(int)
    # libswscale smooths the colours over their neighbours; the pixels that have one of their own agree
    assert np.abs(ours - seen)[:, ::2].max() <= 3
    primary = pixels_of(message(np.array([[90, 81, 240, 81]], np.uint8), "uyvy", width=2, padding=0))
    assert np.abs(primary.astype(int) - [255, 0, 0]).max() <= 1


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (2, 2)])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_mosaic_is_interpolated_from_the_nearest_of_each_colour(
    pattern: str, size: tuple[int, int]
) -> None:
    mosaic = np.random.default_rng(2).integers(0, 256, size, dtype=np.uint8)
    ours = pixels_of(message(mosaic, f"bayer_{pattern}8", width=size[1]))
    assert np.abs(ours - by_hand(mosaic, pattern)).max() <= 0.5
    order = "big" if size[0] == 6 else "little"
    wide = of_16_bits(mosaic, ">" if order == "big" else "<")
    assert np.array_equal(
        pixels_of(message(wide, f"bayer_{pattern}16", width=size[1], bigendian=order == "big")), ours
    )


RINGS = ([(0, 0)], [(0, 1), (0, -1), (1, 0), (-1, 0)], [(1, 1), (1, -1), (-1, 1), (-1, -1)])


def by_hand(mosaic: np.ndarray, pattern: str) -> np.ndarray:
    """Pixel by pixel: the mean of those of a colour among the nearest that have it, borders mirrored."""
    height, width = mosaic.shape
    rgb = np.zeros((height, width, 3))
    for y in range(height):
        for x in range(width):
            for channel, colour in enumerate("rgb"):
                for ring in RINGS:
                    near = [
                        mosaic[mirrored(y + dy, height), mirrored(x + dx, width)]
                        for dy, dx in ring
                        if pattern[2 * ((y + dy) % 2) + (x + dx) % 2] == colour
                    ]
                    if near:
                        rgb[y, x, channel] = np.mean(near)
                        break
    return rgb


def mirrored(at: int, size: int) -> int:
    return abs(at) if at < size else 2 * (size - 1) - at


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"height": 0}, "do not fit"),
        ({"width": 0}, "do not fit"),
        ({"step": 0}, "do not fit"),
        ({"step": 3 * WIDTH - 1}, "do not fit"),
        ({"data": bytes(3 * WIDTH * HEIGHT - 1)}, "do not fit"),
        ({"data": b""}, "do not fit"),
        ({"width": 2**32 - 1}, "do not fit"),
        ({"height": 2**32 - 1}, "do not fit"),
        ({"height": 2**32 - 1, "step": 2**32 - 1}, "do not fit"),
        ({"encoding": "32FC1"}, "32FC1"),
        ({"encoding": ""}, "encoding"),
        ({"encoding": "uyvy", "width": 5}, "odd"),
        ({"encoding": "bayer_rggb8", "width": 1}, "2x2"),
    ],
)
def test_what_does_not_fit_is_a_frame_error(changes: dict[str, Any], said: str) -> None:
    good = {"height": HEIGHT, "width": WIDTH, "encoding": "rgb8", "is_bigendian": 0, "step": 3 * WIDTH}
    with pytest.raises(FrameError, match=said):
        pixels_of(SimpleNamespace(**{**good, "data": RGB.tobytes(), **changes}))  # type: ignore[arg-type]


def test_the_last_row_may_lack_its_padding() -> None:
    rows = np.pad(RGB.reshape(HEIGHT, -1), ((0, 0), (0, 6)))
    flat = SimpleNamespace(
        height=HEIGHT, width=WIDTH, encoding="rgb8", is_bigendian=0, step=36, data=rows.tobytes()[:-6]
    )
    assert np.array_equal(pixels_of(flat), RGB)  # type: ignore[arg-type]


def test_every_encoding_is_tested_here() -> None:
    of_colours = {f"{k}{b}" for k in ("rgb", "bgr", "rgba", "bgra", "mono") for b in (8, 16)}
    of_mosaics = {f"bayer_{p}{b}" for p in ("rggb", "bggr", "gbrg", "grbg") for b in (8, 16)}
    of_yuv = {"yuv422", "uyvy", "yuv422_yuy2", "yuyv"}
    assert set(ENCODINGS) == of_colours | of_mosaics | of_yuv | {"8UC1", "8UC3", "8UC4", "16UC1", "16UC3"}


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_compressed_image_is_decoded_by_its_content(kind: str) -> None:
    content = io.BytesIO()
    Image.fromarray(picture(3)).save(content, kind, quality=100, subsampling=0)
    read = read_image(COMPRESSED_IMAGE, cdr(compressed_message(content.getvalue())))
    assert read.header.stamp_ns == START_NS
    assert read.header.frame_id == "camera"
    seen = pixels_of_compressed(read)  # type: ignore[arg-type]
    assert np.abs(seen.astype(int) - picture(3)).mean() < (1e-9 if kind == "PNG" else 2)


def test_a_compressed_image_that_is_none_is_a_frame_error() -> None:
    read = read_image(COMPRESSED_IMAGE, cdr(compressed_message(b"%!PS-Adobe-3.0 EPSF-3.0\n")))
    with pytest.raises(FrameError, match="known format"):
        pixels_of_compressed(read)  # type: ignore[arg-type]
