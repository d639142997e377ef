from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ocl_edge.errors import FrameError, UsageError
from ocl_edge.images import FORMATS, decode_image, in_natural_order, read_class_map
from tests.doubles.images import random_image

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n"


def rgb(image: Image.Image) -> np.ndarray:
    return np.array(image.convert("RGB"))


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", FORMATS)
def test_the_documented_formats_are_decoded_whatever_their_names_say(tmp_path: Path, form: str) -> None:
    image = random_image(3)
    Image.fromarray(image).save(
        tmp_path / "x.data", format=form, **({"lossless": True} if form == "WEBP" else {})
    )
    decoded = decode_image(tmp_path / "x.data", rgb)
    if form != "JPEG":
        assert np.array_equal(decoded, image)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("form", ["GIF", "TGA", "PCX", "ICO", "SGI", "IM", "PDF", "EPS", "JPEG2000", "DDS"])
def test_no_other_decoder_is_reached(tmp_path: Path, form: str) -> None:
    Image.fromarray(random_image(3)).save(tmp_path / "x.png", format=form)
    with pytest.raises(FrameError, match="not an image of a known format"):
        decode_image(tmp_path / "x.png", rgb)


def test_a_postscript_file_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\nexit 1\n")
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    (tmp_path / "017.png").write_bytes(EPS)
    with pytest.raises(FrameError, match="not an image of a known format"):
        decode_image(tmp_path / "017.png", rgb)
    assert not (tmp_path / "started").exists()


def test_the_size_is_asked_before_the_pixels_are(tmp_path: Path) -> None:
    for width, height in ((8193, 8192), (100_000, 1000), (2**31 - 1, 2**31 - 1)):
        (tmp_path / "bomb.png").write_bytes(png_that_claims(width, height))
        with pytest.raises(FrameError, match="larger than 67,108,864 pixels"):
            decode_image(tmp_path / "bomb.png", lambda image: pytest.fail("its pixels were asked for"))


def test_a_pipe_among_frames_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(FrameError, match="it is a pipe, expected a file"):
        decode_image(tmp_path / "x.png", rgb)


def test_a_label_image_has_one_class_a_pixel(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 5), 7, np.uint8)).save(tmp_path / "grey.png")
    assert read_class_map(tmp_path / "grey.png").tolist() == [[7] * 5] * 4
    Image.fromarray(random_image(0)).save(tmp_path / "colour.png")
    with pytest.raises(UsageError, match="mode 'RGB'"):
        read_class_map(tmp_path / "colour.png")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_their_exif_data_say(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((24, 40, 3), np.uint8)
    upright[:8, :10] = 255  # one corner
    backwards = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the Transpose that undoes each orientation
    image = Image.fromarray(upright)
    stored = image.transpose(Image.Transpose(backwards[orientation])) if orientation > 1 else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    read = decode_image(tmp_path / "x.png", lambda opened: np.array(opened.convert("RGB")))
    assert np.array_equal(read, upright)


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["a10.png", "a2.png", "a1.png", "b.png", "a02b.png", "c/10/1.png", "c/9/2.png"]
    order = [str(file) for file in in_natural_order(map(Path, names))]
    assert order == ["a1.png", "a2.png", "a02b.png", "a10.png", "b.png", "c/9/2.png", "c/10/1.png"]
