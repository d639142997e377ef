"""The command line as a user meets it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge_app.cli import VERBS, cli, run
from ocl_edge_runtime.session.options import RealtimeOptions
from tests.doubles.bundles import SMALL_ARCH


def test_help_and_import_stay_light() -> None:
    code = (
        "import sys, ocl_edge, ocl_edge_app.cli\n"
        "ocl_edge_app.cli.run(['--help'])\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'numpy', 'PIL', 'pydantic', 'rich', 'cv2', 'openvino'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_the_core_imports_no_engine_library() -> None:
    code = (
        "import sys\n"
        "import ocl_edge.method.step, ocl_edge.method.guard, ocl_edge.method.methods\n"
        "import ocl_edge.bundle.manifest, ocl_edge.scoring.metrics, ocl_edge.network.forms\n"
        "import ocl_edge.network.preprocess, ocl_edge.network.programs, ocl_edge.network.tail\n"
        "import ocl_edge.network.zoo\n"
        "print(sorted({'onnx', 'onnxruntime', 'tensorrt', 'openvino', 'cv2'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples_and_json(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Examples:" in text
    assert f"ocl-edge {verb}" in text
    assert "--json" in text or verb == "fleet", "whose server writes rounds as JSON with --report"


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["run"],
        ["run", "bundle", "--source", "x", "--mode", "fast"],
        ["run", "bundle", "--source", "x", "--prior", "2"],
        ["run", "bundle", "--source", "x", "--lr", "nan"],
        ["run", "bundle", "--source", "x", "--lr", "inf"],
        ["run", "bundle", "--source", "x", "--prior", "nan"],
        ["run", "bundle", "--source", "x", "--fps", "fast"],
        ["run", "bundle", "--source", "x", "--fps", "0"],
        ["run", "bundle", "--source", "x", "--source-option", "video_size"],
        ["export"],
        ["export", "model.pth", "--out", "b", "--input-size", "384"],
        ["export", "model.pth", "--out", "b", "--stat-rows", "0"],
        ["export", "model.pth", "--out", "b", "--mean", "1,two"],
    ],
)
def test_wrong_usage_exits_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert "Usage: ocl-edge" in capsys.readouterr().err  # refused as such, not for a missing file


def test_failures_exit_with_one_and_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", str(tmp_path / "none.pth"), "--out", str(tmp_path / "out")]
    assert run(arguments) == 1
    error = capsys.readouterr().err
    assert "error: there is no checkpoint" in error
    assert "Traceback" not in error
    for debugged in (["--debug", *arguments], [*arguments, "--debug"]):
        assert run(debugged) == 1
        assert "Traceback" in capsys.readouterr().err
    assert run(["inspect", str(tmp_path / "nothing")]) == 1
    assert "there is no bundle" in capsys.readouterr().err


def test_a_tampered_bundle_is_refused_by_every_verb(
    small_bundle: Bundle, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = shutil.copytree(small_bundle.path, tmp_path / "bundle")
    with (bundle / "weights.safetensors").open("r+b") as file:
        file.write(b"changed")
    for verb in (["inspect"], ["run", "--source", str(frames)], ["profile"]):
        assert run([verb[0], str(bundle), *verb[1:]]) == 1
        assert "weights.safetensors was changed" in capsys.readouterr().err


def test_export_run_inspect_profile_from_end_to_end(
    small_checkpoint: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    export = [
        "export",
        str(small_checkpoint),
        "--arch",
        SMALL_ARCH,
        "--input-size",
        "48x64",
        "--stat-rows",
        "all",
    ]
    assert run([*export, "--calibration", str(frames), "--out", str(bundle), "--json", "-"]) == 0
    exported = json.loads(capsys.readouterr().out)
    assert exported["parity"]["images_from"] == "calibration"
    assert run([*export, "--out", str(bundle)]) == 2
    assert "--force" in capsys.readouterr().err

    assert run(["inspect", str(bundle), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["identity"] == exported["identity"]
    assert run(["inspect", str(bundle)]) == 0
    shown = capsys.readouterr().out
    assert "classifier" in shown
    assert "weights.safetensors" in shown

    hashes = []
    for attempt in range(2):
        sink = f"masks:{tmp_path / 'masks'}"
        report = tmp_path / f"report{attempt}.json"
        paper = [
            "run",
            str(bundle),
            "--source",
            str(frames),
            "--mode",
            "paper",
            "--backend",
            "onnxruntime",
            "--opening",
            "1",
        ]
        assert run([*paper, "--sink", sink, "--json", str(report)]) == 0
        content = json.loads(report.read_text("utf-8"))
        assert (content["frames"], content["updates"], content["backend"]) == (6, 6, "onnxruntime")
        hashes.append(content["weights_sha256"])
    assert hashes[0] == hashes[1]
    assert len(list((tmp_path / "masks").iterdir())) == 6
    assert "mask latency" in capsys.readouterr().out

    trace = tmp_path / "trace.json"
    assert (
        run(["profile", str(bundle), "--frames", "3", "--warmup", "1", "--trace", str(trace), "--json", "-"])
        == 0
    )
    profile = json.loads(capsys.readouterr().out)
    assert profile["frames"] == 3
    assert set(profile["off"]["frame_ms"]) == {"count", "mean", "p50", "p90", "p95", "p99", "max"}
    assert json.loads(trace.read_text("utf-8"))["traceEvents"]
    assert run(["profile", str(bundle), "--source", str(frames), "--frames", "8", "--warmup", "0"]) == 0
    assert "whole frame" in capsys.readouterr().out


def test_the_limit_on_statistics_is_the_same_on_the_command_line_and_in_python() -> None:
    command = cli.get_command(click.Context(cli), "run")
    assert command is not None
    option = next(p for p in command.params if p.name == "statistics_limit")
    assert option.default == RealtimeOptions().statistics_limit


def test_a_run_that_learns_nothing_says_why(
    small_bundle: Bundle, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    realtime = ["run", str(small_bundle.path), "--source", str(frames), "--threads", "1", "--opening", "1"]
    assert run([*realtime, "--statistics-limit", "0.001"]) == 0
    shown = capsys.readouterr().out
    assert "6 statistics refused" in " ".join(shown.split())
    assert "loss" not in shown
    assert run([*realtime, "--statistics-limit", "1e9", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["reasons"] == {"adapted": 6}
    assert run([*realtime, "--statistics-limit", "0"]) == 2


def test_doctor_lists_backends(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json", "-"]) == 0
    machine = json.loads(capsys.readouterr().out)
    assert (machine["backends"]["onnxruntime"], machine["backends"]["torch"]) == (None, None)
    assert machine["libraries"]["tensorrt-rtx"]
    assert "nvidia driver" in machine["hardware"]
    assert machine["libraries"]["torch"] == torch.__version__
    assert run(["doctor"]) == 0
    assert "usable" in capsys.readouterr().out


def test_a_report_that_cannot_be_written_is_an_error(
    small_bundle: Bundle,
    frames: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = tmp_path / "nowhere" / "report.json"
    arguments = ["run", str(small_bundle.path), "--source", str(frames), "--json"]
    assert run([*arguments, str(target)]) == 2
    assert "make it first" in capsys.readouterr().err

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert run([*arguments, str(tmp_path / "report.json")]) == 1
    assert "report.json: No space left on device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_not_finite_is_null_in_json_and_does_not_stop_the_run(
    small_bundle: Bundle, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "run",
        str(small_bundle.path),
        "--mode",
        "paper",
        "--source",
        str(frames),
        "--lr",
        "1e38",
        "--json",
        "-",
    ]

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    assert run(arguments) == 0
    report = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert report["frames"] == 6
    assert report["losses"][0] is not None
    assert report["losses"][-1] is None
    assert report["reasons"]["the loss is not finite"] >= 1


def test_masks_never_replace_the_frames(
    small_bundle: Bundle, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = Path(shutil.copytree(frames, tmp_path / "frames"))
    before = {file.name: file.read_bytes() for file in directory.iterdir()}
    sink = f"masks:{directory}"
    assert run(["run", str(small_bundle.path), "--source", str(directory), "--sink", sink]) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in directory.iterdir()} == before


def test_a_source_without_a_readable_frame_is_a_failure_of_run_and_profile(
    small_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.png").write_bytes(b"")
    for verb in ("run", "profile"):
        assert run([verb, str(small_bundle.path), "--source", str(tmp_path)]) == 1
        error = capsys.readouterr().err
        assert "skipped broken.png: is empty" in error
        assert "could be used" in error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [["inspect", "BUNDLE"], ["doctor", "--json", "-"]])
def test_a_full_disk_behind_standard_output_is_an_error(small_bundle: Bundle, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "ocl_edge"]
    command += [str(small_bundle.path) if word == "BUNDLE" else word for word in arguments]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=buffered
        )
    assert done.returncode == 1
    assert done.stderr == "error: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("arguments", [["--json", "-"], []])
def test_a_reader_that_has_gone_ends_the_program_quietly(small_bundle: Bundle, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "ocl_edge", "inspect", str(small_bundle.path), *arguments]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_python_dash_m_works() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ocl_edge", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("ocl-edge, version")


def test_realtime_keeps_its_state_and_writes_a_journal(
    small_bundle: Bundle, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, journal = tmp_path / "state", tmp_path / "run.jsonl"
    arguments = ["run", str(small_bundle.path), "--source", str(frames), "--state", str(state)]
    assert run([*arguments, "--resume", "yes"]) == 1
    assert "no saved state" in capsys.readouterr().err
    assert run([*arguments, "--resume", "auto", "--journal", str(journal), "--norm-every", "2"]) == 0
    assert "no saved state: trained weights" in capsys.readouterr().err
    events = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
    assert [e["index"] for e in events if e["event"] == "frame"] == list(range(6))
    assert all(e["reason"] for e in events if e["event"] == "frame")
    assert run([*arguments, "--resume", "yes"]) == 0
    assert "resumed after frame 5" in capsys.readouterr().err
    (state / "state.safetensors").write_bytes(b"damaged")
    assert run([*arguments, "--resume", "yes"]) == 1
    assert "is damaged" in capsys.readouterr().err
    assert run([*arguments, "--resume", "auto"]) == 0
    assert "moved to state.safetensors.refused" in capsys.readouterr().err


def test_options_that_contradict_each_other_are_refused(
    small_bundle: Bundle, frames: Path, tmp_path: Path
) -> None:
    arguments = ["run", str(small_bundle.path), "--source", str(frames)]
    assert run([*arguments, "--mode", "paper", "--state", str(tmp_path / "state")]) == 2
    assert run([*arguments, "--resume", "yes"]) == 2
    assert run([*arguments, "--mode", "frozen", "--method", "tent"]) == 2
    assert run([*arguments, "--norm-every", "0"]) == 2
    assert run([*arguments, "--views", "pair"]) == 2


def test_the_python_api_opens_a_bundle_and_names_wrong_options(small_bundle: Bundle) -> None:
    import numpy as np

    import ocl_edge
    from ocl_edge.errors import UsageError

    session = ocl_edge.open(small_bundle.path, norm_every=4, lr=0.1, opening=1)
    assert (session.setup.realtime.norm_every, session.setup.settings.lr) == (4, 0.1)
    assert session.step(np.zeros((40, 50, 3), np.uint8)).mask.shape == (40, 50)
    with pytest.raises(UsageError, match="unknown options: speed; known: adapt_every"):
        ocl_edge.open(small_bundle.path, speed=3)


def test_the_examples_run_or_parse(small_bundle: Bundle, frames: Path) -> None:
    import ast

    examples = Path(__file__).parents[3] / "examples"
    command = [sys.executable, str(examples / "minimal_loop.py"), str(small_bundle.path), str(frames)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("(40, 50)") == 6
    ast.parse((examples / "ros2_node.py").read_text("utf-8"))
    without_ros = [sys.executable, str(examples / "ros2_node.py")]
    assert "needs ROS 2" in subprocess.run(without_ros, capture_output=True, text=True, check=False).stderr


def test_masks_and_overlays_have_the_size_that_was_asked_for(
    small_bundle: Bundle, frames: Path, tmp_path: Path
) -> None:
    asked = ["run", str(small_bundle.path), "--source", str(frames), "--backend", "torch", "-q"]
    sinks = ["--sink", f"masks:{tmp_path / 'masks'}", "--sink", f"overlay:{tmp_path / 'overlay'}"]
    assert run([*asked, *sinks, "--mask-size", "20x30", "--html", str(tmp_path / "report.html")]) == 0
    assert {Image.open(file).size for file in (tmp_path / "masks").iterdir()} == {(30, 20)}
    assert {Image.open(file).size for file in (tmp_path / "overlay").iterdir()} == {(50, 40)}
    for wrong in ("20", "0x30", "axb", "Frame", "-1x3", "100000x100000"):
        assert run([*asked, "--mask-size", wrong]) == 2
