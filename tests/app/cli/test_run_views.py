"""``ocl-edge run``: several cameras, views, metrics, and sinks that are too slow."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import UsageError
from ocl_edge_app.cli import run
from ocl_edge_app.cli.run_several import name_cameras
from ocl_edge_runtime.sinks import queued
from ocl_edge_runtime.sinks.video import VideoSink
from tests.app.html_rules import checked
from tests.doubles.images import random_image

LEARNS = ("--opening", "1", "--statistics-limit", "9e9", "--threads", "1")


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    directory = tmp_path / "wide"
    directory.mkdir()
    for index in range(4):
        Image.fromarray(random_image(50 + index, 30, 90)).save(directory / f"wide_{index}.png")
    return directory


def masks(directory: Path) -> dict[str, np.ndarray]:
    return {file.name: np.asarray(Image.open(file)) for file in sorted(directory.glob("*.png"))}


def test_each_camera_keeps_its_own_masks_journal_and_state(
    small_bundle: Bundle, frames: Path, wide: Path, tmp_path: Path
) -> None:
    bundle, report = str(small_bundle.path), tmp_path / "report.json"
    kept = [
        f"masks:{tmp_path}/{{camera}}/masks",
        f"{tmp_path}/{{camera}}/run.jsonl",
        f"{tmp_path}/{{camera}}/state",
    ]
    for name in ("front", "rear"):
        (tmp_path / name).mkdir()
    words = ["run", bundle, "--source", f"front={frames}", "--source", f"rear={wide}", "--sink", kept[0]]
    words += ["--journal", kept[1], "--state", kept[2], "--json", str(report), *LEARNS, "--quiet"]
    assert run(words) == 0
    said = json.loads(report.read_text(encoding="utf-8"))["cameras"]
    assert (said["front"]["frames"], said["rear"]["frames"]) == (6, 4)
    assert said["front"]["weights_sha256"] != said["rear"]["weights_sha256"]
    for name, source, count in (("front", frames, 6), ("rear", wide, 4)):
        lines = (tmp_path / name / "run.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["event"] for line in lines] == ["frame"] * count
        alone = tmp_path / f"{name}_alone"
        alone_words = ["run", bundle, "--source", str(source), "--sink", f"masks:{alone}", *LEARNS, "--quiet"]
        assert run(alone_words) == 0
        together = masks(tmp_path / name / "masks")
        assert together.keys() == masks(alone).keys()
        assert all(np.array_equal(mask, together[file]) for file, mask in masks(alone).items())
    assert run([*words, "--resume", "yes"]) == 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--sink", "masks:out"), r"put {camera} into it"),
        (("--journal", "run.jsonl"), r"put {camera} into it"),
        (("--state", "state"), r"put {camera} into it"),
        (("--record-schedule", "tape"), "is for one camera"),
        (("--share", "head", "--update", "background"), "inline updates"),
    ],
)
def test_what_several_cameras_cannot_share_is_refused(
    more: tuple[str, ...],
    words: str,
    small_bundle: Bundle,
    frames: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["run", str(small_bundle.path), "--source", str(frames), "--source", str(frames), *more]) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_report_has_sections_for_each_camera(small_bundle: Bundle, frames: Path, tmp_path: Path) -> None:
    html = tmp_path / "report.html"
    cameras = ["--source", f"front={frames}", "--source", f"rear={frames}"]
    assert run(["run", str(small_bundle.path), *cameras, "--limit", "2", "--html", str(html)]) == 0
    page = checked(html.read_text("utf-8"))
    for name in ("front", "rear"):
        assert all(f"{name}: {part}" in page.text for part in ("Time", "Home", "Updates", "Frames"))
    assert len([1 for tag, _ in page.tags if tag == "img"]) == 2 * 2 * 2, "image and overlay of two frames"


def test_cameras_are_named_or_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["front=0", "rtsp://host/stream?a=b", "rear-2=rtsp://host/x?a=b", "/dev/video1"]
    assert name_cameras(given) == {
        "front": "0",
        "camera1": "rtsp://host/stream?a=b",
        "rear-2": "rtsp://host/x?a=b",
        "camera3": "/dev/video1",
    }
    (tmp_path / "day=1").mkdir()
    assert name_cameras(["day=1"]) == {"camera0": "day=1"}
    with pytest.raises(UsageError, match="two cameras are called a"):
        name_cameras(["a=1", "a=2"])


def test_numbers_and_page_are_there_while_the_run_goes_on(
    small_bundle: Bundle, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found: dict[str, str] = {}
    journal = tmp_path / "run.jsonl"

    def look() -> None:
        while "page" not in found:
            time.sleep(0.05)
            told = sys.stderr.getvalue()  # type: ignore[attr-defined]
            urls = dict(re.findall(r"(metrics|page) at (http://\S+)", told))
            if len(urls) < 2:
                continue
            found["metrics"] = urllib.request.urlopen(urls["metrics"], timeout=5).read().decode()
            page = urllib.request.urlopen(urls["page"], timeout=5).read().decode()
            secret = re.search(r'secret = "([^"]+)"', page)
            assert secret is not None
            request = urllib.request.Request(f"{urls['page']}do/save/0", method="POST")
            request.add_header("X-OCL-Edge", secret[1])
            urllib.request.urlopen(request, timeout=5)
            found["page"] = page

    class Kept:
        def __init__(self) -> None:
            self.text = ""

        def write(self, text: str) -> int:
            self.text += text
            return len(text)

        def flush(self) -> None: ...

        def isatty(self) -> bool:
            return False

        def getvalue(self) -> str:
            return self.text

    looker = threading.Thread(target=look)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", Kept())
        looker.start()
        words = ["run", str(small_bundle.path), "--source", str(frames), "--fps", "2", "--view", "web:0"]
        words += ["--metrics", ":0", "--journal", str(journal), "--state", str(tmp_path / "state"), *LEARNS]
        assert run(words) == 0
        looker.join()
    assert 'ocl_edge_frames_total{camera="camera0"}' in found["metrics"]
    events = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    assert {"event": "by hand", "action": "save", "result": "saved"} in events


@pytest.mark.parametrize("option", ["--metrics", "--view"])
def test_a_port_in_use_ends_before_the_first_frame(
    option: str, small_bundle: Bundle, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        where = f":{port}" if option == "--metrics" else f"web:{port}"
        assert run(["run", str(small_bundle.path), "--source", str(frames), option, where]) == 1
    said = capsys.readouterr()
    assert f"port {port} is in use" in said.err
    assert "frames" not in said.out


@pytest.mark.parametrize("view", ["window", "web:host", "web:1.2.3.4:99999"])
def test_a_view_that_there_is_not_is_refused(
    view: str, small_bundle: Bundle, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", str(small_bundle.path), "--source", str(frames), "--view", view]) == 2
    assert "expected" in capsys.readouterr().err
    assert (
        run(["run", str(small_bundle.path), "--source", str(frames), "--view", "web:0", "--view", "web:0"])
        == 2
    )
    assert "given twice" in capsys.readouterr().err


def test_a_sink_that_hangs_is_in_the_journal_and_every_mask_of_it_is_counted(
    small_bundle: Bundle, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six masks one is in the hands of the sink, one waits, four found the queue full."""
    hung = threading.Event()
    monkeypatch.setattr(VideoSink, "emit", lambda *_: hung.wait())
    monkeypatch.setattr(queued, "LONGEST_CLOSE_S", 0.1)
    monkeypatch.setattr(queued.QueuedSink.__init__, "__defaults__", (1, None))
    journal, report = tmp_path / "run.jsonl", tmp_path / "run.json"
    words = ["run", str(small_bundle.path), "--source", str(frames), "--fps", "3", "--journal", str(journal)]
    words += [
        "--sink",
        f"video:{tmp_path}/out.mp4",
        "--sink",
        f"masks:{tmp_path}/masks",
        "--json",
        str(report),
    ]
    assert run([*words, "--quiet", *LEARNS]) == 0
    said = json.loads(report.read_text(encoding="utf-8"))
    assert said["frames"] == said["left_out"] == len(masks(tmp_path / "masks"))
    events = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    slow = [event for event in events if event["event"] == "sink"]
    assert slow[0]["sink"] == f"video:{tmp_path}/out.mp4"
    assert slow[-1]["left_out"] == said["frames"] - 2
    hung.set()
