"""What is written for frames: names that fit, no links followed, no frame written over."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import OutputError, UsageError
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.sinks import open_sink, open_sinks
from ocl_edge_runtime.sinks.names import file_name
from tests.doubles.images import random_image

MASK = np.zeros((4, 5), np.uint8)


def frame(name: str) -> Frame:
    return Frame(random_image(0)[:4, :5].copy(), 0, name, 0.0, 0.0)


@pytest.mark.parametrize(
    "name",
    [
        "n" * 247,
        "n" * 251,
        "n" * 255,
        "é" * 127,
        "caf\udce9",
        "two\nlines",
        ".hidden",
        "-dash",
        "[glob]",
        "a\\b",
        "*",
    ],
)
def test_every_name_that_a_file_can_have_gets_a_mask(small_bundle: Bundle, tmp_path: Path, name: str) -> None:
    for kind in ("masks", "overlay"):
        open_sink(f"{kind}:{tmp_path / kind}", small_bundle.manifest).emit(frame(name), MASK)
        (written,) = os.listdir(tmp_path / kind)
        assert written == file_name(name)
        with Image.open(tmp_path / kind / written) as image:
            assert image.size == (5, 4)


def test_names_that_fit_are_kept_and_long_ones_stay_apart() -> None:
    assert file_name("n" * 251) == "n" * 251 + ".png"
    assert file_name("caf\udce9") == "caf\udce9.png"
    first, second = file_name("n" * 260 + "1"), file_name("n" * 260 + "2")
    assert first != second
    for name in (first, second, file_name("é" * 200), file_name("a" + "é" * 200), file_name("\udce9" * 255)):
        assert len(os.fsencode(name)) <= 255


def test_a_link_among_the_masks_is_replaced_and_not_followed(small_bundle: Bundle, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "masks").mkdir()
    for name in ("a.png", ".a.png.partial"):
        os.symlink(precious, tmp_path / "masks" / name)
    open_sink(f"masks:{tmp_path / 'masks'}", small_bundle.manifest).emit(frame("a"), MASK)
    assert precious.read_text("utf-8") == "precious"
    assert not (tmp_path / "masks" / "a.png").is_symlink()


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_frames_that_lead_into_the_directory_of_a_sink_are_not_written_over(
    small_bundle: Bundle, frames: Path, tmp_path: Path, hops: int
) -> None:
    """A frame may be a link, and what it leads to may be one, too: none of them may lie where masks go."""
    real = Path(shutil.copytree(frames, tmp_path / "0"))
    for hop in range(1, hops + 1):
        (tmp_path / str(hop)).mkdir()
        for file in real.iterdir():
            os.symlink(f"../{hop - 1}/{file.name}", tmp_path / str(hop) / file.name)
    files = sorted((tmp_path / str(hops)).iterdir())
    for hop in range(hops + 1):
        with pytest.raises(UsageError, match="the frames lie there"):
            open_sinks([f"masks:{tmp_path / str(hop)}"], small_bundle.manifest, files)
    open_sinks([f"masks:{tmp_path / 'out'}"], small_bundle.manifest, files)


def test_a_directory_that_cannot_be_written_is_found_out_before_the_work(small_bundle: Bundle) -> None:
    with pytest.raises(OutputError, match="cannot write into the directory /proc/self"):
        open_sink("masks:/proc/self", small_bundle.manifest)
