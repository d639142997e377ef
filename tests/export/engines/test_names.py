"""Every TensorRT name that the builder and the runner touch, looked up in the real modules.

The classic bindings import once stubs of the three libraries that they link lie on the
library path; classes, methods and enumerations are then there, though nothing can run.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = (
    ROOT / "ocl_edge/tensorrt/flavours.py",
    ROOT / "export/ocl_edge_export/engines/worker.py",
    ROOT / "runtime/ocl_edge_runtime/backends/tensorrt_backend.py",
    ROOT / "runtime/ocl_edge_runtime/backends/tensorrt_contexts.py",
    ROOT / "runtime/ocl_edge_runtime/backends/tensorrt_engines.py",
    ROOT / "runtime/ocl_edge_runtime/backends/runtime_cache.py",
)

# What a variable of this name holds in those files.
CLASSES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "error": "ParserError",
    "profile": "IOptimizationProfile",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "strategies": "CudaGraphStrategy",
}
CONFIGS = {
    "worker.py": "IBuilderConfig",
    "tensorrt_contexts.py": "IRuntimeConfig",
    "runtime_cache.py": "IRuntimeConfig",
}
RTX_ONLY = {
    "ComputeCapability",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
    "CudaGraphStrategy",
    "CudaGraphStrategy.WHOLE_GRAPH_CAPTURE",
    "CudaGraphStrategy.DISABLED",
    "ICudaEngine.create_runtime_config",
    "IRuntimeConfig.create_runtime_cache",
    "IRuntimeConfig.set_runtime_cache",
    "IRuntimeConfig.cuda_graph_strategy",
    "IRuntimeCache.serialize",
    "IRuntimeCache.deserialize",
}
BINDINGS = (
    "tensorrt-cu12-bindings==10.3.0",
    "tensorrt-cu12-bindings==10.13.3.9.post1",
    "tensorrt-cu13-bindings==11.4.0.106",
)

STUB = """
void *createInferBuilder_INTERNAL, *createInferRefitter_INTERNAL, *createInferRuntime_INTERNAL;
void *createNvOnnxParserRefitter_INTERNAL, *createNvOnnxParser_INTERNAL, *getBuilderPluginRegistry;
void *getPluginRegistry, *initLibNvInferPlugins;
int getNvOnnxParserVersion(void) { return 0; }
"""

LOOK_UP = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
def is_there(name):
    holder = module
    for part in name.split("."):
        if not hasattr(holder, part):
            return False
        holder = getattr(holder, part)
    return True
print(json.dumps([name for name in json.loads(sys.argv[2]) if not is_there(name)]))
"""


@cache
def used_names() -> frozenset[str]:
    """``Class.attribute`` and ``Enum.MEMBER`` as they occur in the sources."""
    names = {"Runtime.deserialize_cuda_engine", "IRuntimeCache.serialize", "IRuntimeCache.deserialize"}
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and (holder := _dotted(node.value)):
                kind = CONFIGS.get(file.name) if holder[-1] == "config" else CLASSES.get(holder[-1])
                if kind is not None:
                    names.add(f"{kind}.{node.attr}")
                for root in {"library", "module"} & set(holder):
                    names.add(".".join([*holder[holder.index(root) + 1 :], node.attr]))
    ours = {"module", "messages", "here", "runtime", "explain"}  # fields of EngineLibrary
    return frozenset(name for name in names if name.partition(".")[0] not in ours)


def _dotted(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Name):
        return [node.id]
    return [*inner, node.attr] if isinstance(node, ast.Attribute) and (inner := _dotted(node.value)) else []


def missing(module: str, names: set[str], paths: list[Path], libraries: Path | None = None) -> set[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*paths, *sys.path]))}
    if libraries:
        environment["LD_LIBRARY_PATH"] = str(libraries)
    command = [sys.executable, "-c", LOOK_UP, module, json.dumps(sorted(names))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return set(json.loads(done.stdout))


def test_the_names_are_found_in_the_sources() -> None:
    expected = {
        "Builder.create_network",
        "OnnxParser.parse_from_file",
        "BuilderFlag.TF32",
        "IBuilderConfig.clear_flag",
        "IExecutionContext.execute_async_v3",
        "IExecutionContext.set_tensor_address",
        "ParserError.node_operator",
        "ICudaEngine.get_tensor_mode",
        "TensorIOMode.INPUT",
        "ILogger.Severity.WARNING",
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
    }
    assert expected <= used_names()
    assert used_names() >= RTX_ONLY


def test_tensorrt_rtx_has_every_name() -> None:
    from ocl_edge.tensorrt.flavours import import_flavour

    module = import_flavour("tensorrt-rtx").__name__
    assert missing(module, set(used_names()), []) == set()
    assert missing(module, {"Builder.create_networks"}, []) == {"Builder.create_networks"}


@pytest.mark.parametrize("wheel", BINDINGS)
def test_classic_tensorrt_has_every_name_but_those_of_rtx(wheel: str, tmp_path: Path) -> None:
    package = unpacked(wheel, tmp_path)
    major = wheel.partition("==")[2].partition(".")[0]
    stubs = build_stubs(tmp_path, major)
    names = set(used_names()) - RTX_ONLY
    assert missing("tensorrt_bindings", names, [package], stubs) == set()
    assert missing("tensorrt_bindings", {"BuilderFlag.TF33"}, [package], stubs) == {"BuilderFlag.TF33"}


def unpacked(wheel: str, directory: Path) -> Path:
    """The wheel's content: from pip's cache or its index, without dependencies. Skips, loudly, without."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--quiet",
        "--dest",
        str(directory),
        wheel,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    files = list(directory.glob("*.whl"))
    if not files:
        pytest.skip(f"NOT CHECKED: the wheel {wheel} cannot be had here: {done.stderr.strip()[-200:]}")
    with zipfile.ZipFile(files[0]) as archive:
        archive.extractall(directory / "package")
    return directory / "package"


def build_stubs(directory: Path, major: str) -> Path:
    source, place = directory / "stub.c", directory / "stubs"
    source.write_text(STUB)
    place.mkdir()
    for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        target = place / f"lib{name}.so.{major}"
        flags = ["-shared", "-fPIC", "-w", f"-Wl,-soname,{target.name}"]
        subprocess.run(["gcc", *flags, "-o", str(target), str(source)], check=True)
    return place
