"""Captured programs on disk: torch.export archives (.pt2) that hold no pickle.

``torch.export.load`` unpickles what an archive tells it to. Reading here refuses an
archive that asks for that, before PyTorch opens it.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import torch
from torch import fx
from torch.export import ExportedProgram

from ocl_edge.errors import BundleError


def save_program(program: ExportedProgram, path: Path) -> None:
    """Write a program without sample inputs (they are pickled) and without source locations."""
    program._example_inputs = None
    for module in program.graph_module.modules():
        if isinstance(module, fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
                node.meta.pop("source_fn_stack", None)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    path.write_bytes(buffer.getvalue())


def load_program(path: Path) -> fx.GraphModule:
    """Read a program as a module whose parameters can be trained.

    Raises:
        BundleError: the file is no such archive, or holds a pickle.
    """
    refuse_pickles(path)
    try:
        module = torch.export.load(path).module()
    except Exception as error:
        raise BundleError(f"{path.name} cannot be loaded by PyTorch {torch.__version__}: {error}") from error
    assert isinstance(module, fx.GraphModule)
    return as_plain_graph(module)


def as_plain_graph(module: fx.GraphModule) -> fx.GraphModule:
    """Make ``forward`` take the placeholders and return the graph's output tuple as they stand.

    Drops the node and the hook that check input shapes at every call (the backends check
    them once; a pointwise head also runs on every n-th pixel), and the wrapping of inputs
    and outputs in containers.
    """
    for node in list(module.graph.nodes):
        if node.op == "call_module" and node.target == "_guards_fn":
            module.graph.erase_node(node)
    module.graph.set_codegen(fx.graph.CodeGen())
    return fx.GraphModule(module, module.graph)  # takes what the graph refers to, and no hooks


def refuse_pickles(path: Path) -> None:
    """Raise unless every payload of the archive is raw tensor bytes or JSON.

    Raises:
        BundleError: naming the archive member.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                _check_member(archive, member, path.name)
    except zipfile.BadZipFile as error:
        raise BundleError(f"{path.name} is not a torch.export archive: {error}") from error


def _check_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, file: str) -> None:
    name = member.filename
    if name.endswith(("_weights_config.json", "_constants_config.json")):
        payloads = json.loads(archive.read(member))["config"]
        for tensor, payload in payloads.items():
            if (
                payload["use_pickle"]
                or "custom_obj" in payload["path_name"]
                or "opaque" in payload["path_name"]
            ):
                raise BundleError(
                    f"{file}: {tensor} is stored as a pickle, which is never loaded from a bundle"
                )
    elif (name.endswith(".pt") and member.file_size) or name.endswith((".pkl", ".so")):
        raise BundleError(f"{file}: {name} is a pickle or a binary, which is never loaded from a bundle")
