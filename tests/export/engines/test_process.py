"""The build worker's process, followed, timed and explained; the workers here are a line of Python."""

from __future__ import annotations

import json
import sys
import time

import pytest

from ocl_edge.errors import BuildError, MissingExtraError
from ocl_edge_export.engines.process import run_worker

JOB = {"job": "build", "flavour": "tensorrt", "onnx": "plain.onnx"}


def worker(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", f"import json, os, sys, time; job = json.load(sys.stdin); {code}")


def saying(**event: object) -> tuple[str, ...]:
    return worker(f"print({json.dumps(json.dumps(event))})")


def test_the_last_event_comes_back_with_the_warnings() -> None:
    warning = json.dumps({"event": "message", "severity": "warning", "text": "slow layer"})
    code = f"print({json.dumps(warning)}); print(json.dumps({{'event': 'done', 'onnx': job['onnx']}}))"
    assert run_worker(JOB, 20, command=worker(code)) == {"onnx": "plain.onnx", "warnings": ["slow layer"]}


def test_progress_is_told_while_it_builds() -> None:
    told: list[str] = []
    step = json.dumps({"event": "progress", "phase": "Timing", "step": 3, "steps": 9})
    code = f"time.sleep(2.1); print({json.dumps(step)}, flush=True); print(json.dumps({{'event': 'done'}}))"
    run_worker(JOB, 20, told.append, worker(code))
    assert told == ["read the graph", "timing 3/9 (2 s)"]


def test_a_build_that_hangs_is_stopped() -> None:
    start = time.monotonic()
    with pytest.raises(BuildError, match=r"longer than 1 s and was stopped; .*--timeout"):
        run_worker(JOB, 1, command=worker("time.sleep(60)"))
    assert time.monotonic() - start < 10


def test_a_crash_is_named_and_does_not_reach_us() -> None:
    code = "print('about to fail', file=sys.stderr, flush=True); os.kill(os.getpid(), 11)"
    with pytest.raises(BuildError, match=r"crashed \(signal SIGSEGV\); it said last:\nabout to fail"):
        run_worker(JOB, 20, command=worker(code))


def test_the_out_of_memory_killer_is_recognised() -> None:
    with pytest.raises(BuildError, match=r"memory ran out.*--workspace-mib"):
        run_worker(JOB, 20, command=worker("os.kill(os.getpid(), 9)"))


@pytest.mark.parametrize("text", ["Out of memory", "[resizingAllocator.cpp] OutOfMemory: requested 9 GB"])
def test_memory_that_ran_out_in_the_library_is_recognised(text: str) -> None:
    command = saying(event="failed", stage="build", text=text, nodes=[])
    with pytest.raises(BuildError, match=r"memory ran out in the build.*--max-batch"):
        run_worker(JOB, 20, command=command)


def test_parser_errors_name_node_and_operator() -> None:
    nodes = [{"node": "/up/NonZero", "operator": "NonZero", "text": "no importer"}]
    command = saying(event="failed", stage="parse", text="", nodes=nodes)
    with pytest.raises(
        BuildError, match=r"cannot read the graph plain\.onnx:\n  node /up/NonZero \(NonZero\): no"
    ):
        run_worker(JOB, 20, command=command)


def test_a_missing_library_names_the_extra() -> None:
    command = saying(event="failed", stage="library", text="No module named 'tensorrt'", nodes=[])
    with pytest.raises(MissingExtraError, match=r"No module named.*pip install 'ocl-edge\[gpu\]'"):
        run_worker(JOB, 20, command=command)
