"""Start the build worker, follow it, and end it when it takes too long."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ocl_edge.errors import BuildError, MissingExtraError
from ocl_edge.tensorrt.flavours import EXTRAS, LIBRARIES, as_flavour

WORKER = "ocl_edge_export.engines.worker"
PROGRESS_INTERVAL_S = 2.0
OUT_OF_MEMORY = ("out of memory", "outofmemory", "insufficient memory", "bad_alloc")


def run_worker(
    job: Mapping[str, Any],
    timeout_s: float,
    progress: Callable[[str], None] = lambda _: None,
    command: tuple[str, ...] = (sys.executable, "-m", WORKER),
) -> dict[str, Any]:
    """Run one job in a fresh process.

    Args:
        job: see `ocl_edge_export.engines.worker`.
        timeout_s: after so many seconds the process is killed.
        progress: called with a few words while it works.
        command: of the worker.

    Returns:
        The fields of its last event, and ``warnings``.

    Raises:
        BuildError: it failed, crashed, or ran out of time or memory.
        MissingExtraError: the library is not installed.
    """
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            process.kill()

        timer = threading.Timer(timeout_s, expire)
        timer.start()
        try:
            last, warnings = _follow(process, job, progress)
        finally:
            timer.cancel()
            process.kill()
            process.wait()
        errors.seek(0)
        tail = errors.read()[-800:].strip()
    if expired.is_set():
        raise BuildError(
            f"the build took longer than {timeout_s:g} s and was stopped; give it more time: --timeout"
        )
    if last is None:
        raise BuildError(_explain_crash(process.returncode, tail))
    if last.pop("event") == "done":
        return {**last, "warnings": warnings}
    raise _explain_failure(job, last)


def _follow(
    process: subprocess.Popen[str], job: Mapping[str, Any], progress: Callable[[str], None]
) -> tuple[dict[str, Any] | None, list[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    last: dict[str, Any] | None = None
    warnings: list[str] = []
    start = told = time.monotonic()
    progress("read the graph")
    try:
        process.stdin.write(json.dumps(job))
        process.stdin.close()
    except BrokenPipeError:
        pass  # it died at once; its exit status tells more
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "progress":
            now = time.monotonic()
            if now - told >= PROGRESS_INTERVAL_S:
                told = now
                steps = f" {event['step']}/{event['steps']}" if event["steps"] > 1 else ""
                progress(f"{event['phase'].lower()}{steps} ({now - start:.0f} s)")
        elif event["event"] == "message":
            warnings += [event["text"]] if event["severity"] == "warning" else []
        else:
            last = event
    process.wait()
    return last, warnings


def _explain_crash(status: int, tail: str) -> str:
    if status == -signal.SIGKILL:
        return (
            "the build was killed, most likely because memory ran out; "
            "close other programs, add swap, or give it less: --workspace-mib, --max-batch"
        )
    cause = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    return f"the build process crashed ({cause})" + (f"; it said last:\n{tail}" if tail else "")


def _explain_failure(job: Mapping[str, Any], failure: dict[str, Any]) -> Exception:
    text, stage = str(failure["text"]), failure["stage"]
    if stage == "library":
        flavour = as_flavour(job["flavour"])
        return MissingExtraError(LIBRARIES[flavour], EXTRAS[flavour], f"building {flavour} engines ({text})")
    if any(sign in text.lower() for sign in OUT_OF_MEMORY):
        return BuildError(f"memory ran out in the build; give it less: --workspace-mib, --max-batch.\n{text}")
    if stage == "parse":
        lines = [
            f"  node {n['node'] or '(unnamed)'} ({n['operator'] or '?'}): {n['text']}"
            for n in failure["nodes"]
        ]
        return BuildError(
            "\n".join([f"{job['flavour']} cannot read the graph {job['onnx']}:", *(lines or [text])])
        )
    return BuildError(f"{job['flavour']} cannot build {job['onnx']}:\n{text}")
