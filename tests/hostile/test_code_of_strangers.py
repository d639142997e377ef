"""No path on which something that is read can run: looked for in the sources, and in what libraries do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from ocl_edge.bundle.reading import Bundle

ROOT = Path(__file__).parents[2]
FOLDERS = ("ocl_edge", "app/ocl_edge_app", "export/ocl_edge_export", "runtime/ocl_edge_runtime", "examples")
RUNS_CODE = re.compile(
    r"torch\.load\(|torch\.jit\.load|export\.load\(|\bpickle\.load|\bmarshal\b|\bshelve\b|\bdill\b|\bjoblib\b"
    r"|(?<![.\w])(?:eval|exec)\(|exec_module|os\.system|os\.popen|shell=True|allow_pickle=True|weights_only=False"
    r"|yaml\.load|numpy\.load\(|np\.load\(|\bcompile\([^)]*[\"']exec|importlib\.import_module|__import__\("
)
ALLOWED = {
    "ocl_edge/network/zoo/own_code.py": {
        "exec_module": "--arch, typed on the command line",
        "importlib.import_module": "--arch, typed on the command line",
    },
    "ocl_edge/network/zoo/libraries.py": {
        "importlib.import_module": "--arch, names of libraries in our code"
    },
    "export/ocl_edge_export/checkpoint_files.py": {"torch.load(": "weights only, unless --trust-pickle"},
    "export/ocl_edge_export/untrusted.py": {"torch.load(": "what the worker wrote, weights only"},
    "export/ocl_edge_export/untrusted_worker.py": {
        "torch.load(": "after --trust-pickle, in a process of its own",
        "weights_only=False": "likewise",
        "torch.jit.load": "likewise",
        "export.load(": "likewise",
    },
    "export/ocl_edge_export/convert.py": {"export.load(": "a bundle of ours, after --trust-pickle"},
    "app/ocl_edge_app/demo/world/measure.py": {"torch.load(": "the network that ships, weights only"},
    "app/ocl_edge_app/cli/__init__.py": {"importlib.import_module": "the verbs"},
    "ocl_edge/tensorrt/flavours.py": {"importlib.import_module": "tensorrt, tensorrt_rtx"},
    "runtime/ocl_edge_runtime/backends/__init__.py": {"importlib.import_module": "the table of backends"},
    "runtime/ocl_edge_runtime/backends/host_backend.py": {"__import__(": "names of libraries in our code"},
    "runtime/ocl_edge_runtime/ros/through_rclpy.py": {"importlib.import_module": "types named in our code"},
    "runtime/ocl_edge_runtime/backends/engine_device.py": {"importlib.import_module": "pycuda"},
}


def found_in_sources() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*.py"):
            for match in RUNS_CODE.finditer(file.read_text(encoding="utf-8")):
                found.setdefault(str(file.relative_to(ROOT)), set()).add(match[0])
    return found


def test_code_runs_only_where_the_command_line_asked_for_it() -> None:
    found = found_in_sources()
    assert {name: calls - ALLOWED.get(name, {}).keys() for name, calls in found.items()} == {
        name: set() for name in found
    }


def test_a_checkpoint_s_pickle_needs_the_flag() -> None:
    text = (ROOT / "export/ocl_edge_export/checkpoint_files.py").read_text("utf-8")
    assert text.count("torch.load(") == 1
    assert "weights_only=weights_alone or not trust_pickle" in text
    worker = (ROOT / "export/ocl_edge_export/untrusted.py").read_text("utf-8")
    assert worker.count("torch.load(") == worker.count("weights_only=True") == 2


def test_openvino_reports_to_nobody(small_bundle: Bundle) -> None:
    """Its telemetry would send, from a process of its own, that a model was read."""
    code = f"""
import sys
from ocl_edge.bundle.reading import Bundle
from ocl_edge_runtime.backends import open_backend
import torch
seen = []
backend = None
events = ("os.fork", "subprocess.Popen", "socket.connect", "socket.getaddrinfo")
sys.addaudithook(lambda event, _: event in events and seen.append(event))
bundle = Bundle.open({str(small_bundle.path)!r})
backend = open_backend(bundle, "openvino", threads=1).backend
frame = bundle.manifest.input
backend.infer("plain", {{"image": torch.zeros(1, 3, frame.height, frame.width)}})
print(seen, "openvino" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "[] True", done.stderr
