"""The verbs with a bundle of several outputs."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge_app.cli import run
from tests.app.html_rules import checked
from tests.doubles import two_tasks
from tests.doubles.two_tasks import export_tasks


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with the outputs area and lanes."""
    return export_tasks(tmp_path_factory.mktemp("tasks"), "detecting")["area"].path


@dataclass(frozen=True)
class Result:
    exit_code: int
    stdout: str
    stderr: str


LEARNS = ("--statistics-limit", 1000)
"""From any frame."""

Call = Callable[..., Result]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def called(*arguments: object) -> Result:
        capsys.readouterr()
        code = run([str(each) for each in arguments])
        return Result(code, *capsys.readouterr())

    return called


def refused(result: Result, code: int = 1) -> str:
    assert result.exit_code == code, result.stderr
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.split())


def mask(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def test_every_output_goes_to_sinks_of_its_own(call: Call, tasks: Path, frames: Path, tmp_path: Path) -> None:
    result = call(
        *("run", tasks, "--source", frames, "--opening", 1, "--threads", 1, "--backend", "onnxruntime"),
        *LEARNS,
        *("--sink", f"masks:{tmp_path}/masks/{{output}}", "--sink", f"overlay:{tmp_path}/overlay/{{output}}"),
        *("--journal", tmp_path / "{output}.jsonl", "--state", tmp_path / "state-{output}", "--json", "-"),
    )
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)["outputs"]
    assert list(told) == ["area", "lanes"]
    assert all(each["frames"] == 6 and each["updates"] > 0 for each in told.values())
    for name in told:
        alone = call(
            *("run", f"{tasks}#{name}", "--source", frames, "--opening", 1, "--threads", 1),
            *LEARNS,
            *("--backend", "onnxruntime", "--sink", f"masks:{tmp_path}/alone-{name}", "--json", "-"),
        )
        assert json.loads(alone.stdout)["weights_sha256"] == told[name]["weights_sha256"]
        for file in sorted((tmp_path / "masks" / name).iterdir()):
            assert np.array_equal(mask(file), mask(tmp_path / f"alone-{name}" / file.name))
            assert (tmp_path / "overlay" / name / file.name).exists()
        lines = (tmp_path / f"{name}.jsonl").read_text("utf-8").splitlines()
        assert sum(json.loads(line)["event"] == "frame" for line in lines) == 6
        assert (tmp_path / f"state-{name}" / "state.safetensors").exists()


LEARNING = ("--opening", 1, "--threads", 1, "--backend", "onnxruntime", *LEARNS)


def test_the_report_of_a_run_has_masks_and_time_line_of_each_output(
    call: Call, tasks: Path, frames: Path, tmp_path: Path
) -> None:
    html = tmp_path / "run.html"
    result = call("run", tasks, "--source", frames, *LEARNING, "--html", html, "--json", "-")
    assert result.exit_code == 0, result.stderr
    told, page = json.loads(result.stdout)["outputs"], checked(html.read_text("utf-8"))
    for name, each in told.items():
        assert f"Output {name} Every frame in order" in page.text
        assert f"{name} {each['frames']} " in page.text
    pictures = [given for tag, given in page.tags if tag == "img"]
    assert len(pictures) == 4 * (1 + len(told)), "four frames: the image, and the masks of each output"
    assert "area: class_0" in page.text
    assert "lanes: foreground" in page.text or "lanes: class_1" in page.text
    assert "Run of two_tasks," not in page.text, "that would be one output"
    identity = Bundle.open_outputs(tasks)["area"].manifest_sha256
    assert f"{identity} " in page.text
    assert f"{identity}#" not in page.text, "the bundle is meant, not an output of it"


def test_two_cameras_of_two_outputs_are_told_apart_everywhere(
    call: Call, tasks: Path, frames: Path, tmp_path: Path
) -> None:
    html = tmp_path / "run.html"
    result = call(
        *("run", tasks, "--source", f"front={frames}", "--source", f"rear={frames}", *LEARNING),
        *("--sink", f"masks:{tmp_path}/masks/{{camera}}/{{output}}", "--html", html, "--json", "-"),
        *("--state", tmp_path / "{output}-{camera}"),
    )
    assert result.exit_code == 0, result.stderr
    told, page = json.loads(result.stdout)["cameras"], checked(html.read_text("utf-8"))
    assert {name: list(each["outputs"]) for name, each in told.items()} == {
        camera: ["area", "lanes"] for camera in ("front", "rear")
    }
    for camera, each in told.items():
        for output, facts in each["outputs"].items():
            assert facts["updates"] > 0
            assert f"{camera}: Output {output}" in page.text
            assert len(list((tmp_path / "masks" / camera / output).iterdir())) == facts["frames"] == 6
            assert (tmp_path / f"{output}-{camera}" / "state.safetensors").exists()
    one = call("run", f"{tasks}#lanes", "--source", frames, "--source", frames, "--limit", 1, "--json", "-")
    assert list(json.loads(one.stdout)["cameras"]["camera1"])[:2] != ["outputs"], "one output is a bundle's"
    assert json.loads(one.stdout)["cameras"]["camera1"]["frames"] == 1


def test_updates_in_the_background_reach_every_output(call: Call, tasks: Path, frames: Path) -> None:
    result = call("run", tasks, "--source", frames, *LEARNING, "--update", "background", "--json", "-")
    assert result.exit_code == 0, result.stderr
    for each in json.loads(result.stdout)["outputs"].values():
        assert each["realtime"]["update"] == "background"
        assert each["updates"] >= 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--sink", "masks:out"], "--sink masks:out: several outputs would share it; put {output} into it"),
        (["--journal", "run.jsonl"], "--journal run.jsonl: several outputs would share it"),
        (["--state", "state"], "--state state: several outputs would share it"),
        (["--record-schedule", "run.tape"], "--record-schedule is for one output; this run has area, lanes;"),
        (["--source", "images", "--sink", "masks:{output}"], "several cameras would share it; put {camera}"),
        (["--source", "images", "--sink", "masks:{camera}"], "several outputs would share it; put {output}"),
        (["--mode", "paper", "--method", "ocl-full"], "--method ocl-full trains the backbone, which all"),
        (["--mode", "paper", "--method", "cotta"], "--method cotta trains the backbone, which all outputs"),
    ],
)
def test_what_cannot_hold_several_outputs_says_so_and_writes_nothing(
    call: Call,
    tasks: Path,
    frames: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(call("run", tasks, "--source", frames, *more), 2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "verb",
    [
        ["inspect"],
        ["profile"],
        ["build", "--backend", "tensorrt-rtx"],
        ["bake", "--state", "{frames}", "--checkpoint", __file__, "--out", "y.pth"],
    ],
)
def test_verbs_for_one_output_ask_which(call: Call, tasks: Path, frames: Path, verb: list[str]) -> None:
    name, *more = (each.format(frames=frames) for each in verb)
    words = refused(call(name, tasks, *more)).replace(" ", "")
    assert f"hastheoutputsarea,lanes,andonlyonecanbetakenhere:{tasks}#areaor{tasks}#lanes" in words


def test_home_is_not_measured_for_one_output_of_several(call: Call, tasks: Path, frames: Path) -> None:
    before = {file.name: file.read_bytes() for file in tasks.iterdir() if file.is_file()}
    words = refused(call("calibrate", f"{tasks}#lanes", "--frames", frames)).replace(" ", "")
    assert f"homeismeasuredforalltogether:ocl-edgecalibrate{tasks}" in words
    assert before == {file.name: file.read_bytes() for file in tasks.iterdir() if file.is_file()}


def test_home_is_measured_for_all_outputs_and_told_of_each(
    call: Call, tasks: Path, frames: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(tasks, tmp_path / "bundle")
    html = tmp_path / "home.html"
    result = call("calibrate", bundle, "--frames", frames, "--threads", 1, "--json", "-", "--html", html)
    assert result.exit_code == 0, result.stderr
    page = checked(html.read_text("utf-8"))
    for name in ("area", "lanes"):
        assert f"the head of {name}" in page.text
        assert f"mIoU of {name} wide open, against what the frozen network is sure of" in page.text
        assert f"{name}: confidence, mean probability of the strongest class" in page.text
    assert page.text.count("distance from home") == 1, "home is that of all outputs"
    told, outputs = json.loads(result.stdout), Bundle.open_outputs(bundle)
    assert {each.identity.partition("#")[0] for each in outputs.values()} == {told["identity"]}
    for name, each in outputs.items():
        assert each.manifest.home is not None
        assert told["outputs"][name]["home"] == json.loads(each.manifest.home.model_dump_json())
    files = {each.manifest.home.file for each in outputs.values() if each.manifest.home}
    assert {file.name for file in bundle.glob("home.*")} == files
    assert len(files) == 2, "the heads read other features"
    assert call("run", bundle, "--source", frames, "--threads", 1, "--limit", 2).exit_code == 0


def test_what_a_run_has_learned_in_one_output_is_baked(
    call: Call, tasks: Path, frames: Path, tmp_path: Path
) -> None:
    learns = ("--opening", 1, *LEARNS, "--lr", 1e-5, "--threads", 1)
    state, baked = tmp_path / "state-{output}", tmp_path / "baked"
    assert call("run", tasks, "--source", frames, *learns, "--state", state).exit_code == 0
    network = (
        "--arch",
        f"{Path(two_tasks.__file__)}:detecting",
        "--checkpoint",
        tasks.parent / "detecting.pth",
    )
    result = call(
        *("bake", f"{tasks}#area", "--state", tmp_path / "state-area", "--opening", 1, *network),
        *("--out", baked, "--json", "-"),
    )
    assert result.exit_code == 0, result.stderr
    changed = json.loads(result.stdout)["changed"]
    assert {name.partition(".")[0] for name in changed} == {"encoder", "area"}
    assert {"area.3.weight", "area.3.bias", "encoder.deep.1.running_var"} <= set(changed)
    assert Bundle.open(baked).manifest.output.name == "1"
    assert call("profile", f"{tasks}#area", "--frames", 3, "--threads", 1).exit_code == 0


def test_one_output_is_inspected_profiled_and_evaluated(
    call: Call, tasks: Path, frames: Path, tmp_path: Path
) -> None:
    told = json.loads(call("inspect", f"{tasks}#lanes", "--json", "-").stdout)
    assert (told["output"]["name"], told["head_inputs"]) == ("2", [0])
    labels = tmp_path / "labels"
    assert call("run", f"{tasks}#lanes", "--source", frames, "--mode", "frozen", "--sink", f"masks:{labels}")
    result = call(
        *("evaluate", f"{tasks}#lanes", "--frames", frames, "--labels", labels, "--methods", "frozen"),
        *("--views", "single", "--json", tmp_path / "lanes.json"),
    )
    assert result.exit_code == 0, result.stderr
    rows = json.loads((tmp_path / "lanes.json").read_text("utf-8"))["rows"]
    assert rows[0]["miou"] == pytest.approx(1.0) or rows[0]["miou"] == pytest.approx(100.0)


def test_all_outputs_are_evaluated_each_on_labels_of_its_own(
    call: Call, tasks: Path, frames: Path, tmp_path: Path
) -> None:
    frozen = ("--mode", "frozen", "--threads", 1, "--backend", "onnxruntime")
    made = call("run", tasks, "--source", frames, *frozen, "--sink", f"masks:{tmp_path}/truth-{{output}}")
    assert made.exit_code == 0, made.stderr
    asked = (
        *("--frames", frames, "--methods", "frozen", "--views", "single", "--threads", 1),
        *("--backend", "onnxruntime", "--labels", f"{tmp_path}/truth-{{output}}"),
    )
    files = ("--json", tmp_path / "{output}.json", "--html", tmp_path / "{output}.html")
    result = call("evaluate", tasks, *asked, *files)
    assert result.exit_code == 0, result.stderr
    assert "[2/2] lanes: frozen on clean" in result.stderr
    for name in ("area", "lanes"):
        (row,) = json.loads((tmp_path / f"{name}.json").read_text("utf-8"))["rows"]
        assert row["miou"] == pytest.approx(100.0), "the labels are this output's own masks"
        assert (
            f"Evaluation of two_tasks, {name}" in checked((tmp_path / f"{name}.html").read_text("utf-8")).text
        )
    told = json.loads(call("evaluate", tasks, *asked, "--json", "-").stdout)["outputs"]
    assert list(told) == ["area", "lanes"]
    alone = call("evaluate", f"{tasks}#lanes", *asked[:-1], tmp_path / "truth-lanes", "--json", "-")
    one = json.loads(alone.stdout)
    assert one["rows"][0]["miou"] == told["lanes"]["rows"][0]["miou"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--labels", "truth"],
            "--labels truth: several outputs would share it; put {output} into it",
        ),
        (["--labels", "{output}", "--json", "r.json"], "--json r.json: several outputs would share it"),
        (["--labels", "{output}", "--html", "r.html"], "--html r.html: several outputs would share it"),
    ],
)
def test_outputs_are_not_scored_on_the_labels_of_another(
    call: Call,
    tasks: Path,
    frames: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(call("evaluate", tasks, "--frames", frames, *more), 2)
    assert not list(tmp_path.iterdir())


def test_a_bundle_of_several_is_signed_once(call: Call, tasks: Path, tmp_path: Path) -> None:
    key, public = tmp_path / "key.pem", tmp_path / "key.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
    result = call("sign", tasks, "--key", key, "--json", "-")
    assert result.exit_code == 0, result.stderr
    bundles = Bundle.open_outputs(tasks, signed_by=public)
    assert {each.identity.partition("#")[0] for each in bundles.values()} == {
        json.loads(result.stdout)["identity"]
    }


def test_export_writes_all_outputs_and_shows_each(call: Call, tmp_path: Path) -> None:
    import torch

    torch.save(two_tasks.trained("one_feature").state_dict(), tmp_path / "two.pth")
    (tmp_path / "lanes.txt").write_text("road\nlane\n", "utf-8")
    arch = f"{Path(two_tasks.__file__)}:one_feature"
    common = ["export", tmp_path / "two.pth", "--arch", arch, "--input-size", "48x64", "--out"]
    result = call(
        *common,
        tmp_path / "two",
        "--output",
        "all",
        "--classes",
        f"lanes={tmp_path / 'lanes.txt'}",
        "--json",
        "-",
    )
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert list(told["outputs"]) == ["area", "lanes"]
    assert [each["name"] for each in told["outputs"]["lanes"]["classes"]] == ["road", "lane"]
    for more, message in (
        (
            ["--output", "all", "--classes", f"signs={tmp_path / 'lanes.txt'}"],
            "no output 'signs'; it has: area, lanes",
        ),
        (["--output", "all", "--split", "lanes"], "--split is for one output"),
        (["--output", "a=area,b=nothing"], "no output 'nothing'"),
    ):
        words = refused(call(*common, tmp_path / "other", *more), 2)
        assert message in words
        assert not (tmp_path / "other").exists()


KILLED = """
import sys
from pathlib import Path
from ocl_edge_app.cli import run
from ocl_edge_runtime.records import state

written = state.write_state

def write_and_die(path, content):
    written(path, content)
    if "state-area" in str(path) and content.facts["index"] == 3:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)

state.write_state = write_and_die
sys.exit(run(sys.argv[1:]))
"""


def test_killed_between_two_writes_every_output_goes_on_from_its_own(
    call: Call,
    tasks: Path,
    frames: Path,
    tmp_path: Path,
) -> None:
    command = (
        *("run", tasks, "--source", frames, "--opening", 1, "--threads", 1, "--backend", "onnxruntime"),
        *("--state", tmp_path / "state-{output}", "--save-every", 0, "--resume", "auto"),
    )
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, command)], capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    result = call(*command, "--limit", 1, "--json", "-")
    assert result.exit_code == 0, result.stderr
    words = " ".join(result.stderr.split())
    assert "resumed after frame 3" in words, "area was written"
    assert "resumed after frame 2" in words, "lanes is whole, and older by a frame"
    assert list(json.loads(result.stdout)["outputs"]) == ["area", "lanes"]
