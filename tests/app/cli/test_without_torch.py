"""``run --head engine`` where PyTorch is not installed: same masks, same states."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge_app.cli import run
from tests.doubles.two_tasks import export_tasks

BLOCKED = """
import sys
sys.modules["torch"] = None
from ocl_edge_app.cli import run
code = run(sys.argv[1:])
assert not any(name.startswith("torch.") for name in sys.modules)
sys.exit(code)
"""


def without_torch(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCKED, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def masks(directory: Path) -> dict[str, np.ndarray]:
    return {file.name: np.asarray(Image.open(file)) for file in sorted(directory.iterdir())}


def assert_same(found: Path, expected: Path) -> None:
    ours, theirs = masks(found), masks(expected)
    assert ours.keys() == theirs.keys()
    assert ours
    for name, mask in ours.items():
        assert np.array_equal(mask, theirs[name]), name


MODES = {
    "realtime": ("--adapt-every", "1", "--norm-every", "2", "--opening", "1", "--statistics-limit", "100"),
    "paper": ("--mode", "paper"),
    "frozen": ("--mode", "frozen"),
}


@pytest.mark.parametrize("mode", MODES)
def test_masks_are_those_of_the_pytorch_head(
    small_bundle: Bundle, frames: Path, tmp_path: Path, mode: str
) -> None:
    options = ("--backend", "onnxruntime", "--threads", "1", "--quiet", *MODES[mode])
    words = ("run", str(small_bundle.path), "--source", str(frames), *options)
    done = without_torch(*words, "--head", "engine", "--sink", f"masks:{tmp_path / 'without'}")
    assert done.returncode == 0, done.stderr
    for head in ("engine", "torch"):
        assert run([*words, "--head", head, "--sink", f"masks:{tmp_path / head}"]) == 0
        assert_same(tmp_path / "without", tmp_path / head)


def test_a_state_goes_on_with_pytorch_and_without(small_bundle: Bundle, frames: Path, tmp_path: Path) -> None:
    """The generator that restores weights goes on, too."""
    options = ("--backend", "onnxruntime", "--threads", "1", "--opening", "1", "--adapt-every", "1")
    words = ("run", str(small_bundle.path), "--source", str(frames), "--head", "engine", *options)
    words = (*words, "--restoration", "0.3", "--statistics-limit", "100", "--json", "-")
    learned, away, home = (tmp_path / name for name in ("learned", "away", "home"))
    assert run([*words, "--state", str(learned)]) == 0
    shutil.copytree(learned, away)
    shutil.copytree(learned, home)
    done = without_torch(*words, "--state", away, "--resume", "yes")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["weights_distance"] > 0
    assert run([*words, "--state", str(home), "--resume", "yes"]) == 0
    from ocl_edge_runtime.records.state import read_state

    ours, theirs = (read_state(place / "state.safetensors") for place in (away, home))
    assert ours.tensors.keys() == theirs.tensors.keys()
    assert bytes(ours.tensors["generator"].numpy()[16:]) == bytes(theirs.tensors["generator"].numpy()[16:])
    learned_by_steps = [name for name in ours.tensors if name.startswith(("weight.", "momentum."))]
    assert len(learned_by_steps) == 4
    for name in learned_by_steps:  # the running average goes by the clock
        assert np.allclose(ours.tensors[name].numpy(), theirs.tensors[name].numpy(), rtol=1e-4, atol=1e-5)


def test_what_only_pytorch_can_do_says_so(small_bundle: Bundle, frames: Path) -> None:
    bundle = str(small_bundle.path)
    for words in (
        ("run", bundle, "--source", frames),
        ("run", bundle, "--source", frames, "--head", "engine", "--backend", "torch"),
        ("run", bundle, "--source", frames, "--method", "ocl-full", "--mode", "paper"),
        ("evaluate", bundle, "--frames", frames, "--labels", frames),
        ("profile", bundle, "--source", frames),
        ("export", "model.pth"),
    ):
        done = without_torch(*words)
        assert done.returncode == 1, words
        assert "pip install 'ocl-edge[" in done.stderr, (words, done.stderr)
        assert "fault of ocl-edge" not in done.stderr
    assert without_torch("inspect", bundle).returncode == 0
    assert without_torch("doctor").returncode == 0


@pytest.mark.parametrize("mode", MODES)
def test_several_outputs_run_without_it(frames: Path, tmp_path: Path, mode: str) -> None:
    tasks = export_tasks(tmp_path, "one_feature")["area"].path
    options = ("--backend", "onnxruntime", "--threads", "1", "--quiet", *MODES[mode])
    words = ("run", str(tasks), "--source", str(frames), *options)
    done = without_torch(*words, "--head", "engine", "--sink", f"masks:{tmp_path}/without/{{output}}")
    assert done.returncode == 0, done.stderr
    assert run([*words, "--sink", f"masks:{tmp_path}/torch/{{output}}"]) == 0
    for name in ("area", "lanes"):
        assert_same(tmp_path / "without" / name, tmp_path / "torch" / name)
