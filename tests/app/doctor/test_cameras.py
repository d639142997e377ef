from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from ocl_edge_app.cli.doctor import doctor
from ocl_edge_app.doctor import machine
from ocl_edge_app.doctor.cameras import describe_cameras
from tests.doubles.video4linux import Camera

WEBCAM = Camera(
    formats={
        b"YUYV": {(640, 480): [(1, 30), (1, 15)], (1280, 720): [(1, 10)]},
        b"MJPG": {(1920, 1080): [(1001, 30000)]},
    }
)


def of(tmp_path: Path, **drivers: Camera) -> dict[str, str]:
    """What is said of these devices, by their names."""
    for name in drivers:
        (tmp_path / name).touch()

    def ask(descriptor: int, request: int, answer: bytearray) -> object:
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        return drivers[name].ioctl(descriptor, request, answer)

    return {Path(name).name: words for name, words in describe_cameras(tmp_path, ask).items()}


def test_a_camera_tells_its_sizes_and_rates(tmp_path: Path) -> None:
    assert of(tmp_path, video0=WEBCAM) == {
        "video0": "HD Webcam (uvcvideo): YUYV 640x480 at 30/15, 1280x720 at 10; MJPG 1920x1080 at 29.97"
    }


def test_cameras_come_in_their_order(tmp_path: Path) -> None:
    assert list(of(tmp_path, video10=WEBCAM, video2=WEBCAM)) == ["video2", "video10"]


def test_a_range_is_told_by_its_largest(tmp_path: Path) -> None:
    virtual = Camera(b"Virtual", {b"BGR3": {(1600, 1200): [(1, 60)]}}, ranges=True)
    assert of(tmp_path, video0=virtual) == {"video0": "Virtual (uvcvideo): BGR3 up to 1600x1200 at 60"}


def test_a_camera_of_several_planes_is_one_too(tmp_path: Path) -> None:
    tegra = Camera(b"vi-output", {b"RG10": {(1920, 1080): []}}, device_caps=0x1000, buffers=9)
    assert of(tmp_path, video0=tegra) == {"video0": "vi-output (uvcvideo): RG10 1920x1080"}


def test_what_is_no_camera_is_left_out(tmp_path: Path) -> None:
    metadata = Camera(device_caps=0x04A00000)
    output = Camera(capabilities=0x2, device_caps=0)
    assert of(tmp_path, video0=metadata, video1=output) == {}


def test_a_driver_that_never_ends_is_cut_short(tmp_path: Path) -> None:
    endless = Camera(formats={b"YUYV": {(640, 480): [(1, 30)]}}, endless=True)
    (words,) = of(tmp_path, video0=endless).values()
    assert words.count("YUYV") == 64
    assert "56 more" in words


def test_a_camera_that_may_not_be_opened_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "video0").touch()
    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(Path, "touch", lambda _: None)
    assert of(tmp_path, video0=WEBCAM) == {"video0": "cannot be opened: Permission denied"}


def test_a_file_that_is_no_driver_says_so(tmp_path: Path) -> None:
    (tmp_path / "video0").touch()
    assert "does not answer" in describe_cameras(tmp_path)[str(tmp_path / "video0")]


def test_the_doctor_lists_cameras_and_says_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, said in (({}, "none (no /dev/video*)"), ({"/dev/video3": "HD Webcam"}, "HD Webcam")):
        monkeypatch.setattr(machine, "describe_cameras", lambda found=found: found)
        assert said in CliRunner().invoke(doctor, []).output
