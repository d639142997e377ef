from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ocl_edge.errors import FrameError, UsageError
from ocl_edge.images import SUFFIXES, ColourOverlay, image_files, read_class_map, read_image
from tests.doubles.images import random_image

PALETTE = [(255, 0, 0), (0, 255, 10), (7, 8, 255)]


def test_image_files_are_found_by_their_suffix_in_order_of_name(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.tiff", "c.txt", "d.jpeg"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "directory.png").mkdir()
    assert [file.name for file in image_files(tmp_path)] == ["a.tiff", "b.PNG", "d.jpeg"]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm", ".tif"])
def test_an_image_without_loss_is_read_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    image = random_image(0)
    Image.fromarray(image).save(tmp_path / f"image{suffix}")
    assert suffix in SUFFIXES
    assert np.array_equal(read_image(tmp_path / f"image{suffix}"), image)


def test_what_is_no_image_of_eight_bits_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 999, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(FrameError, match="not 8-bit colours"):
        read_image(tmp_path / "deep.png")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(FrameError, match="is empty"):
        read_image(tmp_path / "empty.png")
    (tmp_path / "text.png").write_bytes(b"text")
    with pytest.raises(FrameError, match="is not an image"):
        read_image(tmp_path / "text.png")


def test_a_class_map_keeps_its_indices_and_nothing_else_is_one(tmp_path: Path) -> None:
    classes = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.fromarray(classes)
    image.save(tmp_path / "grey.png")
    image.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
    image.save(tmp_path / "palette.png")
    for name in ("grey.png", "palette.png"):
        assert np.array_equal(read_class_map(tmp_path / name), classes)
    Image.fromarray(random_image(0)).save(tmp_path / "colours.png")
    with pytest.raises(
        UsageError, match="expected a class map of one channel with 8 or 16 bits, got mode 'RGB'"
    ):
        read_class_map(tmp_path / "colours.png")
    (tmp_path / "text.png").write_bytes(b"text")
    for name in ("text.png", "nothing.png"):
        with pytest.raises(UsageError, match=f"{name} cannot be read"):
            read_class_map(tmp_path / name)


@pytest.mark.parametrize("opacity", [0.0, 0.5, 0.55, 1.0])
def test_an_overlay_is_a_mixture_and_never_overflows(opacity: float) -> None:
    values = np.arange(256, dtype=np.uint8)
    image = np.repeat(values[None, :, None], 3, 2)
    overlay = ColourOverlay(PALETTE, opacity)
    for index, colour in enumerate([*PALETTE, (0, 0, 0)]):
        blended = overlay.over(image, np.full((1, 256), index, np.uint8)).astype(float)
        expected = (1 - opacity) * image + opacity * np.array(colour)
        assert np.abs(blended - expected).max() <= 1.5


def test_a_mask_of_another_size_is_laid_over_by_its_nearest_classes() -> None:
    image, mask = np.full((4, 6, 3), 100, np.uint8), np.array([[0, 1], [1, 0]], np.uint8)
    overlay = ColourOverlay(PALETTE)
    enlarged = mask.repeat(2, 0).repeat(3, 1)
    np.testing.assert_array_equal(overlay.over(image, mask), overlay.over(image, enlarged))
    np.testing.assert_array_equal(overlay.over(image[:2, :2], enlarged), overlay.over(image[:2, :2], mask))
