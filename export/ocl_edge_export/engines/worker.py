"""One build in one process: ``python -m ocl_edge_export.engines.worker``.

Builds that share a process differ from one another, and a failed one changes the next;
a builder that crashes or hangs must not take the caller with it. So the parent
(`ocl_edge_export.engines.process`) starts this for every engine. A job comes in on
standard input as one JSON object; what happens goes out on standard output, one JSON
object a line:

    {"event": "progress", "phase": "...", "step": 3, "steps": 40}
    {"event": "message", "severity": "warning", "text": "..."}
    {"event": "failed", "stage": "parse" | "build" | "library", "text": "...", "nodes": [...]}
    {"event": "done", ...}
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ocl_edge import durable
from ocl_edge.errors import MissingExtraError, OutputError
from ocl_edge.tensorrt.flavours import as_flavour, import_flavour, make_logger
from ocl_edge.tensorrt.plan import KERNEL

Emit = Callable[..., None]

STEP_INTERVAL_S = 0.2


class JobFailed(Exception):  # noqa: N818 - it ends a job, its content is the event
    def __init__(self, stage: str, text: str, nodes: list[dict[str, str]] | None = None) -> None:
        super().__init__(text)
        self.event = {"stage": stage, "text": text, "nodes": nodes or []}


def main() -> int:
    """Run the job from standard input. Libraries that print do so on standard error."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def emit(event: str, **content: Any) -> None:
        out.write(json.dumps({"event": event, **content}) + "\n")
        out.flush()

    job = json.load(sys.stdin)
    try:
        library = import_flavour(as_flavour(job["flavour"]))
        done = describe_library(library) if job["job"] == "describe" else build_engine(library, job, emit)
    except MissingExtraError as failure:
        emit("failed", stage="library", text=str(failure.__cause__), nodes=[])
        return 1
    except JobFailed as failure:
        emit("failed", **failure.event)
        return 1
    emit("done", **done)
    return 0


def describe_library(library: Any) -> dict[str, Any]:
    """Version, and the compute capabilities that it can be asked to build for (``smXY``)."""
    members = getattr(getattr(library, "ComputeCapability", None), "__members__", {})
    targets = [name.lower() for name in members if name.startswith("SM")]
    return {"version": library.__version__, "targets": targets}


def build_engine(library: Any, job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Parse, configure, build, write.

    Job fields: ``onnx``, ``engine`` (paths), ``shapes`` (name of an input with free sizes
    -> shapes ``min``, ``opt``, ``max``), ``targets``, ``workspace_mib``, ``tf32``; optional
    ``timing_cache`` (path): what one form measured, the next one need not measure again.

    Returns:
        Fields of the last event; ``plan``: the lines of the log that tell the kernels, see
        `ocl_edge.tensorrt.plan`.
    """
    messages: list[str] = []
    plan: list[str] = []

    def told(severity: str, text: str) -> None:
        messages.extend([text] if severity == "error" else [])
        emit("message", severity=severity, text=text)

    def detail(text: str) -> None:
        plan.extend(line for line in text.splitlines() if KERNEL in line)

    logger = make_logger(library, told, detail)
    start = time.monotonic()
    builder = library.Builder(logger)
    # The types of the graph are the types of the engine, in every version.
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = library.OnnxParser(network, logger)
    if not parser.parse_from_file(job["onnx"]):
        raise JobFailed("parse", _last_lines(messages), _parser_errors(parser))
    config = _configure(library, builder, job)
    monitor = _make_monitor(library, emit)
    if monitor is not None:
        config.progress_monitor = monitor
    timings = Path(job["timing_cache"]) if job.get("timing_cache") else None
    if timings:
        _use_timing_cache(config, timings)
    serialized = builder.build_serialized_network(network, config)
    del parser  # before its network: the other order ends in a segmentation fault
    if serialized is None:
        raise JobFailed("build", _last_lines(messages))
    content = bytes(serialized)
    Path(job["engine"]).write_bytes(content)
    if timings:
        _save_timing_cache(config, timings)
    return {
        "version": library.__version__,
        "bytes": len(content),
        "layers": network.num_layers,
        "plan": plan,
        "seconds": round(time.monotonic() - start, 3),
    }


def _configure(library: Any, builder: Any, job: dict[str, Any]) -> Any:
    config = builder.create_builder_config()
    config.profiling_verbosity = library.ProfilingVerbosity.DETAILED  # the log tells each kernel's nodes
    if job["workspace_mib"] is not None:
        config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, job["workspace_mib"] << 20)
    if not job["tf32"]:
        config.clear_flag(library.BuilderFlag.TF32)  # float32 that is asked for is float32
    if job["shapes"]:
        profile = builder.create_optimization_profile()
        for name, shapes in job["shapes"].items():
            profile.set_shape(name, *(tuple(shapes[which]) for which in ("min", "opt", "max")))
        config.add_optimization_profile(profile)
    if job["targets"]:
        config.num_compute_capabilities = len(job["targets"])
        for index, target in enumerate(job["targets"]):
            capability = getattr(library.ComputeCapability, target.upper())
            if not config.set_compute_capability(capability, index):
                raise JobFailed("build", f"the library does not take {target} as a target")
    return config


def _use_timing_cache(config: Any, file: Path) -> None:
    cache = config.create_timing_cache(file.read_bytes() if file.exists() else b"")
    # one of another GPU or version is refused by the library, and the build goes on without it
    config.set_timing_cache(cache, ignore_mismatch=False)


def _save_timing_cache(config: Any, file: Path) -> None:
    with contextlib.suppress(OSError, OutputError):  # it only saves time
        file.parent.mkdir(parents=True, exist_ok=True)
        durable.write_bytes(file, bytes(config.get_timing_cache().serialize()), durable=False)


def _make_monitor(library: Any, emit: Emit) -> Any:
    """Tells the outermost phase's steps; None where the library has no progress monitor."""
    if not hasattr(library, "IProgressMonitor"):
        return None

    class Progress(library.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            library.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.told = 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:  # noqa: ARG002
            self.steps[phase_name] = num_steps
            self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1)
            return True

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

        def _tell(self, phase: str, step: int) -> None:
            now = time.monotonic()
            if step == 0 or now - self.told > STEP_INTERVAL_S:
                self.told = now
                emit("progress", phase=phase, step=step, steps=self.steps.get(phase, 0))

    return Progress()


def _parser_errors(parser: Any) -> list[dict[str, str]]:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    return [
        {"node": error.node_name(), "operator": error.node_operator(), "text": error.desc()}
        for error in errors
    ]


def _last_lines(messages: list[str], count: int = 5) -> str:
    return "\n".join(messages[-count:]) or "the library gave no reason"


if __name__ == "__main__":
    sys.exit(main())
