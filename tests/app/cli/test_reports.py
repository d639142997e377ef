"""``--html`` of run, profile and evaluate, as a user meets it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge_app.cli import run
from ocl_edge_app.pictures import mask_from_text
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions
from tests.app.html_rules import checked
from tests.doubles.images import random_image

HOSTILE_FILE = """a&<script>b'"onerror=c.png"""
HOSTILE_CLASS = "</style><img src='http://example.org/x'>"


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    """Six frames, one of a hostile name, and one that is no image."""
    directory = tmp_path / "frames"
    directory.mkdir()
    for index in range(5):
        Image.fromarray(random_image(index)).save(directory / f"frame_{index}.png")
    Image.fromarray(random_image(5)).save(directory / HOSTILE_FILE)
    return directory


@pytest.fixture
def labels(stream: Path, tmp_path: Path) -> Path:
    """Classes 0 to 2 of 5, in stripes; class 3 never occurs, 4 neither."""
    directory = tmp_path / "labels"
    directory.mkdir()
    for file in stream.iterdir():
        stripes = np.tile(np.arange(50) // 17, (40, 1)).astype(np.uint8)
        Image.fromarray(stripes).save(directory / file.name)
    names = ["road", HOSTILE_CLASS, "sky", "never", "x" * 60]
    (tmp_path / "classes.json").write_text(json.dumps({"classes": names, "ignore_index": 255}))
    return directory


def html_of(path: Path) -> str:
    assert not list(path.parent.glob(".*partial"))
    return path.read_text(encoding="utf-8")


GATE = "How far from home, and how far open"


@pytest.mark.parametrize("mode", ["realtime", "paper", "frozen"])
def test_run_writes_a_report(small_bundle: Bundle, stream: Path, tmp_path: Path, mode: str) -> None:
    (stream / "broken.png").write_bytes(b"")
    html, report = tmp_path / "run.html", tmp_path / "run.json"
    arguments = ["run", str(small_bundle.path), "--source", str(stream), "--mode", mode, "--fps", "500"]
    assert run([*arguments, "--html", str(html), "--json", str(report)]) == 0
    page, facts = checked(html_of(html)), json.loads(report.read_text("utf-8"))
    words = page.text
    assert f"{facts['skipped']} skipped, {facts['dropped']} dropped, {facts['late']} late" in words
    assert f"{facts['updates']} updates kept" in words or f"updates kept {facts['updates']}" in words
    assert small_bundle.identity in words
    assert f"--source {stream}" in words
    assert "p99" in words
    assert f"method {facts['method']}" in words
    if facts["skipped"]:
        assert "broken.png skipped is empty" in words
    pictures = [given for tag, given in page.tags if tag == "img"]
    assert len(pictures) == 2 * min(4, facts["frames"])
    assert (GATE in words) == (mode != "frozen")
    assert (facts["opening"], facts["openings"]["mean"] <= 1) == ("auto", True)


def test_run_of_one_frame_has_a_report(small_bundle: Bundle, stream: Path, tmp_path: Path) -> None:
    html = tmp_path / "one.html"
    source = str(stream / HOSTILE_FILE)
    assert run(["run", str(small_bundle.path), "--source", source, "--html", str(html)]) == 0
    assert HOSTILE_FILE.removesuffix(".png") in checked(html_of(html)).text


def test_profile_writes_a_report(small_bundle: Bundle, tmp_path: Path) -> None:
    html, report = tmp_path / "profile.html", tmp_path / "profile.json"
    arguments = ["profile", str(small_bundle.path), "--frames", "3", "--warmup", "0", "--json", str(report)]
    assert run([*arguments, "--html", str(html)]) == 0
    words, facts = checked(html_of(html)).text, json.loads(report.read_text("utf-8"))
    for which in ("off", "on"):
        assert f"{facts[which]['latency_ms']['p50']:.1f} ms" in words
        for stage, values in facts[which]["stages_ms"].items():
            assert f"{stage} {values['mean']:.2f} {values['p50']:.2f}" in words
    assert GATE in words
    assert "Held open at 1" in words
    assert (facts["on"]["opening"], facts["off"]["distance"]) == (1.0, None)
    assert facts["on"]["distance"] > 0


def evaluate(bundle: Bundle, stream: Path, labels: Path, *more: str) -> list[str]:
    classes = ["--label-classes", str(labels.parent / "classes.json")]
    frames = ["--frames", str(stream), "--labels", str(labels)]
    return ["evaluate", str(bundle.path), *frames, *classes, *more]


def test_evaluate_writes_a_report(small_bundle: Bundle, stream: Path, labels: Path, tmp_path: Path) -> None:
    html, results = tmp_path / "evaluate.html", tmp_path / "evaluate.json"
    more = ["--seeds", "0,1", "--rounds", "2", "--corruption", "clean", "--corruption", "contrast:2"]
    arguments = evaluate(small_bundle, stream, labels, *more, "--json", str(results))
    assert run([*arguments, "--html", str(html)]) == 0
    page = checked(html_of(html))
    cells = json.loads(results.read_text("utf-8"))["cells"].values()
    for cell in cells:
        if cell["method"] == "frozen":
            miou = cell["rounds"][-1]["miou"]
            assert f"{cell['stream']} frozen pair {miou:.2f} – –" in page.text
    assert HOSTILE_CLASS in page.text
    assert "not in the labels" in page.text
    assert "round 2" in page.text
    # image, truth, frozen, adapted and what changed, of four frames of two streams
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 5 * 4 * 2
    assert "never – – – –" in page.text
    gates = [f"{GATE}: {method}" in page.text for method in ("norm", "ocl-head")]
    assert sorted(gates) == [False, True], "that of the best method"


def test_the_report_of_a_resumed_evaluation_shows_the_same_pictures(
    small_bundle: Bundle, stream: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = evaluate(small_bundle, stream, labels, "--html", str(tmp_path / "whole.html"))
    assert run(whole) == 0
    resumed = evaluate(small_bundle, stream, labels, "--json", str(tmp_path / "parts.json"))
    assert run([*resumed, "--methods", "frozen,norm"]) == 0
    capsys.readouterr()
    assert run([*resumed, "--html", str(tmp_path / "parts.html")]) == 0
    assert "frozen on clean, seed 0: finished before" in capsys.readouterr().err
    pictures = [
        re.findall(r'src="([^"]+)', html_of(tmp_path / f"{name}.html")) for name in ("whole", "parts")
    ]
    assert len(pictures[0]) == 5 * 4
    assert pictures[0] == pictures[1]


def test_kept_masks_are_those_of_the_pass(
    small_bundle: Bundle, stream: Path, labels: Path, tmp_path: Path
) -> None:

    results = tmp_path / "evaluate.json"
    arguments = evaluate(small_bundle, stream, labels, "--methods", "ocl-head", "--lr", "5")
    assert run([*arguments, "--json", str(results)]) == 0
    (cell,) = json.loads(results.read_text("utf-8"))["cells"].values()
    session = open_session(small_bundle, SessionOptions("ocl-head", lr=5.0))
    masks = [session.step(np.array(Image.open(file))).mask for file in sorted(stream.iterdir())]
    kept = cell["rounds"][0]["examples"]
    assert [example["index"] for example in kept] == [0, 2, 3, 5]
    for example in kept:
        assert np.array_equal(mask_from_text(example["mask"]), masks[example["index"]])
        assert example["miou"] == cell["rounds"][0]["frame_miou"][example["index"]]


def test_settings_of_another_command_are_left_out(
    small_bundle: Bundle, stream: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One file may hold passes of two learning rates: a row never mixes them."""
    results = str(tmp_path / "evaluate.json")
    for rate in ("0.1", "50"):
        arguments = evaluate(small_bundle, stream, labels, "--methods", "ocl-head", "--lr", rate)
        assert run([*arguments, "--json", results]) == 0
        row = capsys.readouterr().out.splitlines()[-1].split()
    cells = json.loads(Path(results).read_text("utf-8"))["cells"].values()
    miou = [cell["rounds"][0]["miou"] for cell in cells if cell["settings"]["lr"] == 50]
    assert len(cells) == 2
    assert row[2] == f"{miou[0]:.2f}"


def test_wrong_pixels_and_their_change_are_told_apart(tmp_path: Path) -> None:
    from ocl_edge_app.evaluation.labelled import LabelSpace
    from ocl_edge_app.report.evaluate_examples import changed_pixels

    truth = np.array([[0, 0, 1, 1, 9]], np.uint8)  # 9: not labelled
    picture = changed_pixels(
        LabelSpace(("a", "b"), 9, None),
        truth,
        np.array([[1, 0, 1, 0, 0]], np.uint8),
        np.array([[0, 0, 0, 1, 0]], np.uint8),
    )
    assert picture.caption == "50.0 % fixed, 25.0 % broken"


def test_a_palette_that_does_not_fit_is_refused_before_anything_runs(
    small_bundle: Bundle, stream: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = {"classes": list("abcde"), "ignore_index": 255, "palette_rgb": [[0, 0, 0]] * 4 + [[0, 0, 256]]}
    (tmp_path / "classes.json").write_text(json.dumps(classes))
    assert run([*evaluate(small_bundle, stream, labels), "--html", str(tmp_path / "e.html")]) == 2
    captured = capsys.readouterr()
    assert "'palette_rgb' must have one [R, G, B] a class" in captured.err
    assert "[1/" not in captured.err


@pytest.mark.parametrize(
    "verb", [["run", "--source", "x"], ["profile"], ["evaluate", "--frames", "x", "--labels", "y"]]
)
def test_a_report_that_could_not_be_written_is_refused_before_anything_runs(
    verb: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for target, words in ((tmp_path / "nowhere" / "r.html", "make it first"), (tmp_path, "name a file")):
        assert run([verb[0], "bundle", *verb[1:], "--html", str(target)]) == 2
        assert words in " ".join(capsys.readouterr().err.split())


def test_frames_that_all_cannot_be_read_are_a_failure_of_evaluate(
    small_bundle: Bundle, stream: Path, labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in stream.iterdir():
        file.write_bytes(b"")
    assert run(evaluate(small_bundle, stream, labels)) == 1
    assert "none of the 6 frames could be used" in capsys.readouterr().err


def test_labels_that_are_all_ignored_give_a_report_without_numbers(
    small_bundle: Bundle, stream: Path, labels: Path, tmp_path: Path
) -> None:
    for file in labels.iterdir():
        Image.fromarray(np.full((40, 50), 255, np.uint8)).save(labels / file.name)
    html = tmp_path / "nothing.html"
    assert run([*evaluate(small_bundle, stream, labels), "--html", str(html)]) == 0
    page = checked(html_of(html))
    assert "no values" in page.text
    assert re.findall(r"\bnan\b", page.text) == []
