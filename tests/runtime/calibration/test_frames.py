from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ocl_edge.errors import UsageError
from ocl_edge_runtime.calibration.corruptions import CORRUPTIONS
from ocl_edge_runtime.calibration.frames import evenly_spaced, find_frames
from tests.doubles.home_frames import write_frames
from tests.doubles.images import random_image

BLACK = np.zeros((40, 50, 3), np.uint8)


def test_twenty_frames_are_taken_without_a_word(tmp_path: Path) -> None:
    frames = find_frames(write_frames(tmp_path / "frames", [random_image(i) for i in range(20)]))
    assert [file.name for file in frames.files] == [f"{i}.png" for i in range(20)]
    assert frames.notes == []
    assert np.array_equal(frames.read(3), random_image(3))


def test_few_frames_are_allowed_and_said(tmp_path: Path) -> None:
    frames = find_frames(write_frames(tmp_path / "frames", [random_image(i) for i in range(5)]))
    assert len(frames) == 5
    assert frames.notes == ["5 frames are few: 20 to 200 tell more of home"]


@pytest.mark.parametrize(
    ("pictures", "why"),
    [
        ([random_image(i) for i in range(4)], r"4 different frames can be used; calibration takes 5"),
        ([random_image(0)] * 30, r"1 different frames.*29 frames are left out: they repeat another one"),
        ([BLACK + i for i in range(30)], r"0 different frames.*30 frames .* show nothing"),
        ([random_image(0)] * 3 + [BLACK] * 30, r"1 different frames.*30 frames .*2 frames .*repeat"),
    ],
)
def test_too_few_that_show_something_are_refused(
    tmp_path: Path, pictures: list[np.ndarray], why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        find_frames(write_frames(tmp_path / "frames", pictures))


def test_a_camera_that_stands_shows_one_frame(tmp_path: Path) -> None:
    """Noise of a sensor makes no other picture of it."""
    random = np.random.default_rng(0)
    scene = random_image(0).astype(np.int16)
    noisy = [np.clip(scene + random.normal(0, 2, scene.shape), 0, 255).astype(np.uint8) for _ in range(30)]
    with pytest.raises(UsageError, match="1 different frames"):
        find_frames(write_frames(tmp_path / "frames", noisy))


def test_no_directory_and_no_images_are_refused(tmp_path: Path) -> None:
    for directory in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match="no images"):
            find_frames(directory)


def test_what_cannot_be_read_is_left_out_and_counted(tmp_path: Path) -> None:
    directory = write_frames(tmp_path / "frames", [random_image(i) for i in range(20)])
    (directory / "7.png").write_bytes(b"no picture")
    frames = find_frames(directory)
    assert len(frames) == 19
    assert frames.notes[0] == "1 frames are left out: they cannot be read"


def test_mixed_sizes_are_said(tmp_path: Path) -> None:
    pictures = [random_image(i, 40 + 2 * (i % 2), 50) for i in range(20)]
    assert "2 sizes" in find_frames(write_frames(tmp_path / "frames", pictures)).notes[0]


def test_of_many_frames_the_first_the_last_and_evenly_spaced_ones_are_taken(tmp_path: Path) -> None:
    frames = find_frames(write_frames(tmp_path / "frames", [random_image(i, 16, 16) for i in range(399)]))
    assert [file.name for file in frames.files] == [f"{i}.png" for i in range(0, 399, 2)]
    assert "of 399 frames, 200 are taken" in frames.notes[0]


def test_evenly_spaced_takes_both_ends() -> None:
    assert evenly_spaced(list(range(9)), 3) == [0, 4, 8]
    assert evenly_spaced([2, 5], 4) == [2, 5]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_changes_a_frame_and_the_same_seed_gives_the_same_copy(name: str) -> None:
    frame = random_image(0, 48, 64)
    before = frame.copy()
    first, again = (CORRUPTIONS[name](frame, np.random.default_rng(3)) for _ in range(2))
    assert first.dtype == np.uint8
    assert first.shape == frame.shape
    assert np.array_equal(first, again)
    assert np.abs(first.astype(int) - frame).mean() > 2
    assert np.array_equal(frame, before)
