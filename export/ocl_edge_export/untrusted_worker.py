"""Loads, in a process of its own, a file that runs code when it is loaded; writes what of it is data.

``python -m ocl_edge_export.untrusted_worker JOB``, JOB the JSON file of one of

    {"kind": "weights", "file": ..., "out": DIRECTORY}               a pickle  -> weights.pth
    {"kind": "torchscript" | "pt2", ..., "size": [H, W] or null}     a program -> network.onnx, sample.pth

``done.json`` in DIRECTORY says that all is there, or what went wrong.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._export.converter import TS2EPConverter
from torch.export import ExportedProgram

from ocl_edge_export.outputs import named_tensors
from ocl_edge_export.state_dicts import laid_out

TORCHSCRIPT_OPSET = 18


def write_weights(file: Path, out: Path) -> dict[str, Any]:
    """Every tensor of a pickle, by its way there."""
    content = torch.load(file, map_location="cpu", weights_only=False)
    tensors = {name: t.detach().clone() for name, t in laid_out(content).items()}
    says = content.get("ocl_edge") if isinstance(content, dict) else None
    torch.save({**tensors, **({"ocl_edge": says} if says is not None else {})}, out / "weights.pth")
    return {}


def write_torchscript(file: Path, out: Path, size: list[int]) -> dict[str, Any]:
    """A TorchScript program as ONNX, norms unfolded, any number of images."""
    program = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
    program = program.float().eval()
    channels = next((weight.shape[1] for weight in program.parameters() if weight.dim() == 4), 3)
    image = _sample([1, channels, *size])
    with torch.no_grad():
        names = _write_sample(image, program(image), out)
        try:
            torch.onnx.export(
                program,
                (image,),
                str(out / "network.onnx"),
                dynamo=False,
                opset_version=TORCHSCRIPT_OPSET,
                training=torch.onnx.TrainingMode.PRESERVE,
                do_constant_folding=False,
                input_names=["image"],
                output_names=names,
                dynamic_axes={"image": {0: "batch"}},
            )
        except Exception:  # it lacks operators that the other way has, and keeps the names that it loses
            converted = TS2EPConverter(program, (image,), {}).convert()
            _write_onnx(converted, names, out)
    return {"size": size}


def write_exported(file: Path, out: Path, size: list[int] | None) -> dict[str, Any]:
    """A torch.export program as ONNX."""
    program = torch.export.load(file)
    given = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    if len(given) != 1 or not isinstance(given[0].meta.get("val"), Tensor) or given[0].meta["val"].dim() != 4:
        return {"error": f"it takes {len(given)} inputs, expected one image [N, C, H, W]"}
    sides = [side if isinstance(side, int) else None for side in given[0].meta["val"].shape]
    wanted: list[int | None] = [*size] if size else [None, None]
    known = [a or b for a, b in zip(sides[2:], wanted, strict=True)]
    if None in known or (size and known != size):
        return {
            "error": f"its images are {sides[2]}x{sides[3]}; say which size with --input-size HEIGHTxWIDTH"
        }
    image = _sample([sides[0] or 1, sides[1] or 3, *known])
    taken = program.module()
    with torch.no_grad():
        _write_onnx(program, _write_sample(image, taken(image), out), out)
    return {"size": known}


def _write_onnx(program: ExportedProgram, names: list[str], out: Path) -> None:
    written = torch.onnx.export(program, dynamo=True, optimize=False, verbose=False, output_names=names)
    assert written is not None
    written.save(out / "network.onnx", external_data=True)


def _sample(shape: list[Any]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def _write_sample(image: Tensor, returned: Any, out: Path) -> list[str]:
    """What the program gives for an image, to compare the graph with; returns the outputs' names."""
    tensors = {name.replace(".", "_") or "out": tensor for name, tensor in named_tensors(returned).items()}
    torch.save({"image": image, "outputs": list(tensors.values())}, out / "sample.pth")
    return list(tensors)


def main(job_file: str) -> None:
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    out = Path(job["out"])
    warnings.simplefilter("ignore")
    try:
        if job["kind"] == "weights":
            result = write_weights(Path(job["file"]), out)
        else:
            write = {"torchscript": write_torchscript, "pt2": write_exported}[job["kind"]]
            result = write(Path(job["file"]), out, job["size"])
    except ModuleNotFoundError as error:
        result = {"missing_module": error.name}
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        result = {"error": f"{type(error).__name__}: {first}"}
    (out / "done.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
