"""``ocl-edge profile``: realtime mode beside the frozen network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge_app.cli import run


def profiled(bundle: Bundle, out: Path, *more: str) -> dict[str, object]:
    asked = ["profile", str(bundle.path), "--backend", "onnxruntime", "--frames", "6", "--warmup", "1", "-q"]
    assert run([*asked, "--json", str(out), *more]) == 0
    content: dict[str, object] = json.loads(out.read_text("utf-8"))
    return content


def test_realtime_mode_is_profiled_as_it_was_asked_for(small_bundle: Bundle, tmp_path: Path) -> None:
    found = profiled(small_bundle, tmp_path / "p.json", "--adapt-every", "3", "--frame-size", "64x48")
    assert found["mode"] == "realtime"
    assert found["on"]["updates"] == {"adapted": 2, "not due": 4}  # type: ignore[index]
    assert "flipped view" in found["on"]["stages_ms"]  # type: ignore[index]
    assert found["off"]["updates"] == {"nothing trains": 6}  # type: ignore[index]
    assert found["punctuality"] is None


def test_a_rate_tells_late_masks(small_bundle: Bundle, tmp_path: Path) -> None:
    # a rate that nothing can follow, and one that everything does
    fast = profiled(small_bundle, tmp_path / "p.json", "--fps", "1e6")["punctuality"]
    slow = profiled(small_bundle, tmp_path / "p.json", "--fps", "0.01")["punctuality"]
    assert fast["adaptation on"]["late"] == 1.0  # type: ignore[index]
    assert slow == {name: {"late": 0, "passed_over": 0} for name in ("adaptation off", "adaptation on")}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--opening", "auto"], "needs --source"),
        (["--deadline-ms", "50"], "needs --fps"),
        (["--frame-size", "1920"], "as in 1920x1080"),
        (["--frame-size", "0x5"], "pixels"),
        (["--frame-size", "99999x99999"], "pixels"),
        (["--fps", "nan"], "finite"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    small_bundle: Bundle, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["profile", str(small_bundle.path), *options]) == 2
    assert words in capsys.readouterr().err


def test_the_table_says_what_dominates(
    small_bundle: Bundle, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["profile", str(small_bundle.path), "--source", str(frames), "--frames", "3", "--warmup", "0"]
    assert run([*asked, "--backend", "torch", "--opening", "auto", "--fps", "5"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("to the mask: try", "p99 over p50", "at 5 fps", "energy", "opening", "from home"):
        assert words in shown
