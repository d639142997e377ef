"""How far the roofline of ``profile --estimate`` is from the truth on the one device here: this processor.

    python bench/estimate.py BUNDLE [BUNDLE ...] [--rounds 20]

ONNX Runtime tells the kernels that it runs, with the shapes of their operands. Bandwidth, peak and the cost
of a kernel that does nothing are measured at start, one thread. The estimate of each form is compared with
the median of its measured times.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper

from ocl_edge.bundle.reading import Bundle
from ocl_edge.network.form_names import FORMS
from ocl_edge.tensorrt.plan import Kernel
from ocl_edge_app.profile.estimate import Device
from ocl_edge_export.form_inputs import inputs_of_form

COPIED_BYTES = 1 << 28
MATRIX = 1024
EMPTY_KERNELS = 200


def best_of(work: Callable[[], Any], rounds: int = 7) -> float:
    """Least seconds of a call."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def this_processor() -> Device:
    """Its memory's bandwidth, the peak of one core, and what a kernel costs that computes nothing."""
    source = np.ones(COPIED_BYTES // 4, np.float32)
    target = np.empty_like(source)
    matrix = torch.randn(MATRIX, MATRIX)
    copy_s = best_of(lambda: np.copyto(target, source))
    product_s = best_of(lambda: matrix @ matrix)
    nodes = [helper.make_node("Neg", [f"v{i}"], [f"v{i + 1}"]) for i in range(EMPTY_KERNELS)]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("v0", f"v{EMPTY_KERNELS}")
    ]
    graph = helper.make_graph(nodes, "nothing", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = open_onnx(model.SerializeToString())
    empty_s = best_of(lambda: session.run(None, {"v0": np.ones(1, np.float32)})) / EMPTY_KERNELS
    peak = 2 * MATRIX**3 / product_s / 1e12
    return Device("this processor", 2 * COPIED_BYTES / copy_s / 1e9, {"fp32": peak}, 1e6 * empty_s)


def open_onnx(model: str | bytes, profile: str | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def kernels_of(file: Path, inputs: dict[str, Any]) -> list[Kernel]:
    """What ONNX Runtime runs for one image, after its own fusions."""
    with tempfile.TemporaryDirectory() as directory:
        session = open_onnx(str(file), f"{directory}/run")
        session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return [kernel_of(event["args"]) for event in events if event.get("name", "").endswith("_kernel_time")]


def kernel_of(told: dict[str, Any]) -> Kernel:
    read, written = (list(shapes_of(told[f"{what}_type_shape"])) for what in ("input", "output"))
    values = sum(math.prod(shape) for shape in written)
    operator = told["op_name"]
    if "Conv" in operator and len(read) > 1:
        operations = 2 * values * math.prod(read[1][1:])
    elif "MatMul" in operator or "Gemm" in operator:
        operations = 2 * values * read[0][-1]
    else:
        operations = values
    moved = 4 * (values + sum(math.prod(shape) for shape in read))
    return Kernel(kind=operator, bytes=moved, operations=operations)


def shapes_of(told: list[dict[str, list[int]]]) -> Iterator[list[int]]:
    for tensor in told:
        yield from tensor.values()


@click.command()
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--rounds", type=click.IntRange(min=1), default=20, show_default=True)
def main(bundles: tuple[Path, ...], rounds: int) -> None:
    """Compare estimated and measured times of every form of BUNDLES."""
    torch.set_num_threads(1)
    device = this_processor()
    print(
        f"{device.bandwidth:.1f} GB/s, {device.peaks['fp32']:.3f} TFLOPS, {device.launch_us:.1f} us a kernel"
    )
    print(
        "\n| bundle | form | kernels | moved | operations | estimate | measured | measured / estimate |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for path in bundles:
        bundle = Bundle.open(path)
        frame = bundle.manifest.input
        image = torch.randn(1, frame.channels, frame.height, frame.width)
        for form in FORMS:
            inputs = {name: tensor.numpy() for name, tensor in inputs_of_form(bundle, form, image).items()}
            kernels = kernels_of(bundle.graph_file(form), inputs)
            run = partial(open_onnx(str(bundle.graph_file(form))).run, None, inputs)
            run()
            times = [1000 * best_of(run, 1) for _ in range(rounds)]
            estimate = sum(device.kernel_ms(kernel, "fp32") for kernel in kernels)
            moved = sum(kernel.bytes for kernel in kernels) / 1e6
            operations = sum(kernel.operations for kernel in kernels) / 1e9
            measured = float(np.median(times))
            print(
                f"| {path.name} | {form} | {len(kernels)} | {moved:.0f} MB | {operations:.2f} G "
                f"| {estimate:.1f} ms | {measured:.1f} ms | {measured / estimate:.2f} |"
            )


if __name__ == "__main__":
    main()
