"""Latency of every form on one backend, and how far it is from ONNX Runtime on the CPU.

    python bench/backend_latency.py BUNDLE --backend tensorrt [--precision fp16] [--runs N] [--json]

Forms take turns, batch 1. ``after idle`` is the first run after a pause of one second.
TensorRT backends also give the slowest layers.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ocl_edge.bundle.reading import Bundle
from ocl_edge.network.form_names import FORMS, FormName
from ocl_edge_export.form_inputs import inputs_of_form
from ocl_edge_export.sample_images import noise_images
from ocl_edge_runtime.backends import BACKENDS, open_backend
from ocl_edge_runtime.backends.base import Backend
from ocl_edge_runtime.backends.onnxruntime_backend import OnnxRuntimeBackend
from ocl_edge_runtime.backends.tensorrt_backend import TensorRtBackend

WARM_UP, PAUSES, SLOWEST = 10, 5, 10


def time_once(backend: Backend, form: FormName, inputs: dict[str, Tensor]) -> float:
    start = time.perf_counter()
    backend.infer(form, inputs)
    return (time.perf_counter() - start) * 1e3


def measure(bundle: Bundle, backend: Backend, runs: int) -> dict[str, Any]:
    images = noise_images(bundle.manifest.input, count=1)
    inputs = {form: inputs_of_form(bundle, form, images) for form in FORMS if form in backend.describe()}
    reference = OnnxRuntimeBackend(bundle)
    report: dict[str, Any] = {}
    times: dict[FormName, list[float]] = {form: [] for form in inputs}
    for form, tensors in inputs.items():
        first = time_once(backend, form, tensors)
        outputs, expected = backend.infer(form, tensors), reference.infer(form, tensors)
        difference = {
            name: float((outputs[name].cpu() - value).abs().max() / value.abs().max())
            for name, value in expected.items()
        }
        report[form] = {"first_ms": first, "relative_difference": difference}
    for index in range(WARM_UP + runs):
        for form in list(inputs)[:: 1 if index % 2 else -1]:
            elapsed = time_once(backend, form, inputs[form])
            times[form] += [elapsed] if index >= WARM_UP else []
    for form, tensors in inputs.items():
        idle = []
        for _ in range(PAUSES):
            time.sleep(1)
            idle.append(time_once(backend, form, tensors))
        low, middle, high, late = np.percentile(times[form], (10, 50, 90, 99)).tolist()
        report[form] |= {"p10_ms": low, "p50_ms": middle, "p90_ms": high, "p99_ms": late}
        report[form]["after_idle_ms"] = float(np.median(idle))
        if isinstance(backend, TensorRtBackend):
            layers = sorted(backend.profile_layers(form, tensors), key=lambda layer: -layer[1])
            report[form]["slowest_layers_ms"] = layers[:SLOWEST]
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--backend", default="auto", choices=["auto", *BACKENDS])
    parser.add_argument("--precision", choices=["fp32", "fp16", "bf16", "int8"])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    backend = open_backend(bundle, arguments.backend, arguments.threads, arguments.precision).backend
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    forms = measure(bundle, backend, arguments.runs)
    backend.close()
    if arguments.json:
        json.dump({"backend": backend.name, "precision": arguments.precision, "forms": forms}, sys.stdout)
        return
    print(f"{backend.name}, {bundle.manifest.input.height}x{bundle.manifest.input.width}, batch 1")
    for form, row in forms.items():
        worst = max(row["relative_difference"].values())
        print(
            f"  {form}: p50 {row['p50_ms']:.2f} ms ({row['p10_ms']:.2f} to {row['p90_ms']:.2f}), "
            f"p99 {row['p99_ms']:.2f}, after idle {row['after_idle_ms']:.2f}, first {row['first_ms']:.0f}, "
            f"relative difference {worst:.1e}"
        )


if __name__ == "__main__":
    main()
