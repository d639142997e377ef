#!/usr/bin/env python3
"""Does it run under other Pythons? Runs the demo's bundle without PyTorch, under each one that is here.

    python3 scripts/other_pythons.py python3.10 python3.12 python3.13

For each Python: compiles every module, installs the wheel with the extra ``device`` into a new environment,
runs the bundle of this machine's demo with ``--head engine``, and compares the masks with this machine's.
Fails if more than 0.1 % of the pixels differ. pip is also asked (``--dry-run``) whether the other extras can
be installed there, all but PyTorch and what runs on GPUs. Needs `make setup`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
DESK = ROOT / ".venv" / "bin"
PACKAGES = ("ocl_edge", "app/ocl_edge_app", "export/ocl_edge_export", "runtime/ocl_edge_runtime")
MOST_PIXELS = 0.001
RUN = "run {bundle} --source {frames} --limit 4 --mode paper --head engine --backend onnxruntime --threads 1"
EXTRAS = "device,openvino,video,sign"


def call(*command: str | Path) -> None:
    """Run a command, shown as it starts.

    Raises:
        SystemExit: it failed.
    """
    print("+", *command, flush=True)
    if code := subprocess.run([str(word) for word in command], check=False).returncode:
        raise SystemExit(f"{command[0]} failed with {code}")


def try_python(python: str, wheel: Path, demo: Path, place: Path) -> Path:
    """Install and run under one Python; returns the directory of its masks."""
    copies = [shutil.copytree(ROOT / package, place / "compiled" / package) for package in PACKAGES]
    call(python, "-m", "compileall", "-q", *copies)
    call(python, "-m", "venv", place / "venv")
    pip = (place / "venv" / "bin" / "python", "-m", "pip", "install", "--quiet", "--only-binary=:all:")
    call(*pip, f"{wheel}[device]")
    call(*pip, "--dry-run", f"{wheel}[{EXTRAS}]", "onnx>=1.17", "onnxscript>=0.7")
    run_bundle(place / "venv" / "bin" / "ocl-edge", demo, place / "masks")
    return place / "masks"


def run_bundle(program: Path, demo: Path, masks: Path) -> None:
    words = RUN.format(bundle=demo / "bundle", frames=demo / "frames").split()
    call(program, *words, "--opening", "1", "--quiet", "--sink", f"masks:{masks}")


def share_that_differs(expected: Path, found: Path) -> float:
    """Of all pixels of two directories of masks of the same names."""
    shares = [
        float(np.mean(np.asarray(Image.open(file)) != np.asarray(Image.open(found / file.name))))
        for file in sorted(expected.iterdir())
    ]
    return float(np.mean(shares))


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        trip = Path(temporary)
        call(DESK / "python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", trip, ROOT)
        call(DESK / "ocl-edge", "demo", "--frames", "12", "--out", trip / "demo", "--quiet")
        run_bundle(DESK / "ocl-edge", trip / "demo", trip / "desk")
        for python in sys.argv[1:]:
            place = trip / Path(python).name
            masks = try_python(python, next(trip.glob("*.whl")), trip / "demo", place)
            share = share_that_differs(trip / "desk", masks)
            call(python, "--version")
            print(f"{python}: {100 * share:.4f} % of the pixels differ from this machine's", flush=True)
            if not share <= MOST_PIXELS:
                raise SystemExit(f"more than {100 * MOST_PIXELS} %")


if __name__ == "__main__":
    main()
