"""``ocl-edge demo`` as a user meets it."""

from __future__ import annotations

import contextlib
import io
import json
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge.method.verdict import Reason, Signals, Verdict, Violation
from ocl_edge.network.zoo.demo import normalise
from ocl_edge_app.cli import run
from ocl_edge_app.demo.comparison import Comparison, compare, gains_in_words
from ocl_edge_app.demo.products import contents
from ocl_edge_app.demo.report import demo_page
from ocl_edge_app.demo.video import write_video
from ocl_edge_app.demo.world.classes import CLASSES, PALETTE
from ocl_edge_app.demo.world.drive import STRETCHES, DriveFrame, drive
from ocl_edge_app.demo.world.measure import load_shipped
from ocl_edge_app.report import Section, render_page
from ocl_edge_runtime.session.frames import FrameResult

FRAMES = 10
COMMAND = [sys.executable, "-m", "ocl_edge", "demo", "--frames", str(FRAMES)]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo of ten frames, two a stretch, in a directory where another was killed."""
    directory = tmp_path_factory.mktemp("demo") / "out"
    killed = start_and_wait_for_frames(directory)
    killed.kill()
    killed.communicate()
    assert [entry.name for entry in directory.iterdir()] == [".partial"]
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        assert run(["demo", "--out", str(directory), "--frames", str(FRAMES)]) == 0
    (directory.parent / "shown.txt").write_text(shown.getvalue())
    return directory


@pytest.fixture(scope="module")
def numbers(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "demo.json").read_text("utf-8"))
    return content


def pixels(directory: Path) -> NDArray[np.uint8]:
    """Every PNG of a directory in order of name, uint8 [N, H, W] or [N, H, W, 3]."""
    return np.stack([np.array(Image.open(file)) for file in sorted(directory.iterdir())])


def mean_iou(masks: NDArray[np.uint8], labels: NDArray[np.uint8]) -> float:
    """By sets of pixels, class by class, in percent."""
    present = [c for c in range(len(CLASSES)) if (labels == c).any()]
    return 100 * float(
        np.mean(
            [((masks == c) & (labels == c)).sum() / ((masks == c) | (labels == c)).sum() for c in present]
        )
    )


def test_a_demo_leaves_everything_it_names(out: Path) -> None:
    assert sorted(entry.name for entry in out.iterdir()) == [
        "bundle", "demo.json", "frames", "labels", "masks", "poster.png", "report.html", "video.mp4",
    ]  # fmt: skip
    assert set(Bundle.open(out / "bundle").manifest.forms) == {"plain", "modulated", "measured"}
    assert Bundle.open(out / "bundle").manifest.parity["images_from"] == "calibration"


def test_miou_is_that_of_the_masks_it_leaves(out: Path, numbers: dict[str, Any]) -> None:
    labels = pixels(out / "labels")
    for network in ("frozen", "adapted"):
        masks = pixels(out / "masks" / network)
        assert numbers["whole"][network] == pytest.approx(mean_iou(masks, labels))
        for index, stretch in enumerate(STRETCHES):
            two = slice(2 * index, 2 * index + 2)
            assert numbers["stretches"][stretch][network] == pytest.approx(mean_iou(masks[two], labels[two]))
    assert numbers["whole"]["gain"] == pytest.approx(numbers["whole"]["adapted"] - numbers["whole"]["frozen"])


def test_frozen_masks_are_those_of_the_shipped_network(out: Path) -> None:
    images = normalise(torch.from_numpy(pixels(out / "frames")))
    with torch.no_grad():
        expected = load_shipped()(images).argmax(1).numpy()
    assert (pixels(out / "masks" / "frozen") != expected).mean() < 1e-3


def test_adaptation_does_nothing_by_day_and_gains_at_night(
    numbers: dict[str, Any],
) -> None:
    assert numbers["method"] == "ocl-head"
    assert sum(numbers["updates"].values()) == FRAMES  # each has a reason; at home none is made
    assert numbers["updates"]["adapted"] > 0
    assert numbers["weights_distance"] > 0
    gains = {name: scores["gain"] for name, scores in numbers["stretches"].items()}
    assert gains["day"] == 0
    assert min(gains.values()) > -0.5
    assert gains["night"] > 0.5  # two frames a stretch: it has hardly opened before the last one


def test_the_report_tells_the_numbers_and_needs_no_other_file(out: Path, numbers: dict[str, Any]) -> None:
    page = (out / "report.html").read_text(encoding="utf-8")
    gains = {name: scores["gain"] for name, scores in numbers["stretches"].items()}
    for sentence in gains_in_words(gains):
        assert sentence in page
    for name, scores in numbers["stretches"].items():
        cells = re.search(rf"<th[^>]*>{name}</th>\s*<td>([\d.]+)</td>\s*<td>([\d.]+)</td>", page)
        assert cells
        assert cells.groups() == (f"{scores['frozen']:.1f}", f"{scores['adapted']:.1f}")
    assert page.count("data:image") == 4 * len(STRETCHES)
    assert str(out / "bundle") in page
    assert ".partial" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")


def test_the_terminal_tells_the_numbers_the_verdict_and_what_is_next(
    out: Path, numbers: dict[str, Any]
) -> None:
    shown = (out.parent / "shown.txt").read_text("utf-8")
    lines = [line.split() for line in shown.splitlines()]
    gains = {name: scores["gain"] for name, scores in numbers["stretches"].items()}
    for name, scores in numbers["stretches"].items():
        row = [f"{scores['frozen']:.1f}", f"{scores['adapted']:.1f}", f"{gains[name]:+.1f}"]
        assert [name, *row] in lines
    assert " ".join(gains_in_words(gains)) in " ".join(shown.split())
    assert ["report.html", "everything"] in lines
    assert "ocl-edge export model.pth" in shown
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert max(len(line) for line in shown.splitlines() if str(out) not in line) <= 80


def test_the_video_shows_image_frozen_adapted_and_truth(out: Path) -> None:
    import av

    with av.open(str(out / "video.mp4")) as container:
        shown = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 10
    assert len(shown) == FRAMES
    palette = np.array(PALETTE)
    panels = [
        pixels(out / "frames"),
        *(palette[pixels(out / place)] for place in ("masks/frozen", "masks/adapted", "labels")),
    ]
    for index, panel in enumerate(panels):
        left = 8 + index * 328
        for picture, expected in zip(shown, panel, strict=True):
            difference = np.abs(picture[28:220, left : left + 320] - expected).mean()
            assert difference < 12, f"panel {index}"


def test_the_poster_shows_the_frame_whose_numbers_are_closest_to_the_drives(
    out: Path, numbers: dict[str, Any]
) -> None:
    poster = np.array(Image.open(out / "poster.png"))
    labels, frames = pixels(out / "labels"), pixels(out / "frames")
    (index,) = [i for i, frame in enumerate(frames) if (poster[28:220, 8:328] == frame).all()]
    distance = np.zeros(FRAMES)
    for network, left in (("frozen", 336), ("adapted", 664)):
        masks = pixels(out / "masks" / network)
        assert (poster[28:220, left : left + 320] == np.array(PALETTE)[masks[index]]).all()
        miou = [mean_iou(mask, label) for mask, label in zip(masks, labels, strict=True)]
        distance += np.abs(np.array(miou) - numbers["whole"][network])
    assert index == distance.argmin()


def test_times_are_of_the_same_frames_and_outcomes_leave_out_details() -> None:
    frames = [
        DriveFrame(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8), "day", i) for i in range(3)
    ]
    comparison = Comparison(frames)
    undone = Signals(0.0, 0.5, 1.0, 0.1)
    verdicts = (
        Verdict(Reason.ADAPTED),
        Verdict(Reason.ROLLED_BACK, signals=undone, cause=Violation.SHARE_GAIN),
        Verdict(Reason.ROLLED_BACK, signals=replace(undone, share_gain=0.6), cause=Violation.SHARE_GAIN),
    )
    for frame, frozen, adapted, update, verdict in zip(
        frames, (10.0, 20.0, 10.0), (20.0, 30.0, 50.0), (79.0, 71.0, 0.0), verdicts, strict=True
    ):
        mask = frame.labels
        comparison.frozen.add(frame, FrameResult(mask, Verdict(Reason.NOTHING_TRAINS), {"backbone": frozen}))
        stages = {"backbone": adapted / 2, "tail": adapted / 2} | ({"loss": update} if update else {})
        comparison.adapted.add(frame, FrameResult(mask, verdict, stages))
    found = comparison.as_dict()
    assert found["latency_ratio"] == 2.0  # of 2, 1.5 and 5
    assert found["in_time"] == 2  # 99, 101 and 50 ms of 100
    assert (found["update_ms"]["count"], found["update_ms"]["mean"]) == (2, 75.0)
    assert found["updates"] == {"adapted": 1, "roll back": 2}


def test_a_drive_without_a_single_update_has_a_report() -> None:
    frames = [DriveFrame(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8), "day", 0)]
    comparison = Comparison(frames)
    for score in comparison.scores.values():
        score.add(frames[0], FrameResult(frames[0].labels, Verdict(Reason.BLANK), {"backbone": 10.0}))
    assert comparison.as_dict()["update_ms"] is None
    page = render_page(demo_page(comparison, Section("What ran", []), {"masks": "of every frame"}))
    assert "the frame is blank" in page
    assert "update, after the mask" not in page


def test_the_same_drive_gives_the_same_masks_and_numbers(out: Path, numbers: dict[str, Any]) -> None:
    again = compare(Bundle.open(out / "bundle"), list(drive(FRAMES, seed=0)))
    for key, value in again.as_dict().items():
        if key not in ("latency_ms", "latency_ratio", "update_ms", "in_time"):
            assert value == numbers[key], key
    for name, score in again.scores.items():
        assert (pixels(out / "masks" / name) == [result.mask for result in score.results]).all()


def test_without_pyav_the_video_is_a_webp_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    pictures = [np.full((20, 30, 3), grey, np.uint8) for grey in (0, 100, 200)]
    name = write_video(pictures, tmp_path, fps=10)
    with Image.open(tmp_path / name) as animation:
        assert (name, animation.n_frames, animation.size) == ("video.webp", 3, (30, 20))
        animation.load()
        assert animation.info["duration"] == 100
    assert "pip install 'ocl-edge[video]'" in contents(tmp_path)["video.webp"]


def test_an_interrupted_demo_leaves_nothing(tmp_path: Path) -> None:
    process = start_and_wait_for_frames(tmp_path / "out")
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == 130, error
    assert error.endswith("interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_no_more_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    done = subprocess.run(
        [*COMMAND, "--out", str(tmp_path / "out"), "--quiet"],
        capture_output=True, text=True, check=False, preexec_fn=limit,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write")
    assert "File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_other_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert run(["demo", "--out", str(tmp_path)]) == 2
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize("library", ["onnx", "onnxscript", "onnxruntime"])
@pytest.mark.parametrize("verb", [["demo", "--out"], ["export", "model.pth", "--out"]])
def test_a_missing_library_is_told_before_anything_is_done(
    verb: list[str],
    library: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    assert run([*verb, str(tmp_path / "out")]) == 1
    who = "the demo" if verb[0] == "demo" else "export"
    assert capsys.readouterr().err == f"error: {who} needs {library}: pip install 'ocl-edge[cpu]'\n"
    assert list(tmp_path.iterdir()) == []


def test_words_say_where_adaptation_does_not_help() -> None:
    assert gains_in_words({"fog": 3.0, "day": -0.2, "night": -2.0, "rain": 1.0}) == [
        "Adaptation helps: fog (+3.0), rain (+1.0).",
        "It makes no difference: day (-0.2).",
        "It does not help, it costs accuracy: night (-2.0).",
    ]
    assert gains_in_words({"fog": -3.0}) == [
        "Adaptation helps in no stretch.",
        "It does not help, it costs accuracy: fog (-3.0).",
    ]


def heed_interrupts() -> None:
    """A shell makes what it starts in the background ignore SIGINT, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start_and_wait_for_frames(out: Path) -> subprocess.Popen[str]:
    """A demo in a process of its own, once it has written its first frame."""
    process = subprocess.Popen(
        [*COMMAND, "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    while not list(out.glob(".partial/frames/*.png")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return process
