"""Everything that we would like to know from a device that we do not have, in one command.

    python bench/device_report.py [BUNDLE] [--backend tensorrt|tensorrt-rtx] [--out report.json]

Describes the machine, builds engines in fp32 and fp16, measures every form, profiles
frames with and without adaptation, and runs the GPU tests. Each step is a process of its own: what fails is
in the report too. Nothing is sent anywhere: please attach the file to an issue. It holds
versions, clocks, timings and messages, and no images; look at it first.

Without BUNDLE: ESPNetv2 at 384x512 with random weights, which is as fast as a trained one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parent
CLI = [sys.executable, "-m", "ocl_edge"]
STEP_TIMEOUT_S = 3600
TAIL_CHARACTERS = 4000
RANDOM_WEIGHTS = """
import sys, torch
from ocl_edge.network.zoo.espnetv2 import ESPNetv2
torch.manual_seed(0)
torch.save(ESPNetv2(scale=2.0, classes=20).state_dict(), sys.argv[1])
"""


def run_step(command: list[str]) -> dict[str, Any]:
    """Run a command; its exit status, seconds, JSON where it printed some, else its last words."""
    start = time.monotonic()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=STEP_TIMEOUT_S, cwd=BENCH.parent
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"command": shown(command), "exit": None, "said": str(error)}
    step: dict[str, Any] = {"command": shown(command), "exit": done.returncode}
    step["seconds"] = round(time.monotonic() - start, 2)
    try:
        step["result"] = json.loads(done.stdout)
    except ValueError:
        step["said"] = done.stdout[-TAIL_CHARACTERS:]
    step["messages"] = done.stderr[-TAIL_CHARACTERS:]
    return step


def shown(command: list[str]) -> str:
    return " ".join("python" if part == sys.executable else part for part in command)


def steps_of(bundle: str, backend: str, runs: int) -> dict[str, list[str]]:
    latency = [sys.executable, str(BENCH / "backend_latency.py"), bundle, "--runs", str(runs), "--json"]
    steps = {}
    for precision in ("fp32", "fp16"):
        on = ["--backend", backend, "--precision", precision]
        steps[f"build {precision}"] = [*CLI, "build", bundle, *on, "--rebuild", "--json", "-"]
        steps[f"build {precision} again"] = [*CLI, "build", bundle, *on, "--json", "-"]
        steps[f"latency {precision}"] = [*latency, *on]
    steps["latency onnxruntime"] = [*latency, "--backend", "onnxruntime"]
    steps["profile"] = [*CLI, "profile", bundle, "--backend", backend, "--json", "-"]
    steps["gpu tests"] = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "gpu",
        "-rs",
        "--no-header",
        "tests/runtime/backends/test_tensorrt_gpu.py",
    ]
    steps["machine afterwards"] = [*CLI, "doctor", "--json", "-"]
    return steps


def export_random_network(directory: Path) -> tuple[str, dict[str, Any]]:
    """ESPNetv2 with random weights as a bundle; the step's report."""
    weights, bundle = directory / "random.pth", directory / "bundle"
    subprocess.run([sys.executable, "-c", RANDOM_WEIGHTS, str(weights)], check=True)
    size = ["--input-size", "384x512", "--arch", "espnetv2:scale=2.0,classes=20"]
    return str(bundle), run_step([*CLI, "export", str(weights), *size, "--out", str(bundle), "--json", "-"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", nargs="?")
    parser.add_argument("--backend", default="tensorrt", choices=["tensorrt", "tensorrt-rtx"])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("device-report.json"))
    arguments = parser.parse_args()
    steps: dict[str, Any] = {"machine": run_step([*CLI, "doctor", "--json", "-"])}
    with tempfile.TemporaryDirectory() as scratch:
        bundle = arguments.bundle
        if bundle is None:
            bundle, steps["export"] = export_random_network(Path(scratch))
        for name, command in steps_of(bundle, arguments.backend, arguments.runs).items():
            print(f"{name} ...", flush=True)
            steps[name] = run_step(command)
            if name == "gpu tests" and " passed" not in steps[name].get("said", ""):
                steps[name]["exit"] = None  # all skipped is not passed
            print(f"  {'done' if steps[name]['exit'] == 0 else 'FAILED, and noted'}")
    made_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    arguments.out.write_text(
        json.dumps({"made_at": made_at, "steps": steps}, indent=1) + "\n", encoding="utf-8"
    )
    failed = [name for name, step in steps.items() if step["exit"] != 0]
    print(f"{arguments.out}: {len(steps) - len(failed)} of {len(steps)} steps worked")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
