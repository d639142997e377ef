"""What each form of the backbone costs, and how long a bundle takes to its first mask.

    python bench/forms.py --data ../shared/data [--bundle DIR] [--rounds N] [--threads N]
    python bench/forms.py --bundle DIR --backends onnxruntime,openvino --threads 1 [--cpu-time]

Batch 1, forms and backends interleaved in one process; medians of the times and of the
ratios round by round, with the 10th and 90th percentile: to the backend's own ``plain``,
and to the same form on the first backend. With ``--cpu-time`` the processor's seconds count, not the
clock's: for machines that others use, too.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ocl_edge.bundle.reading import Bundle
from ocl_edge.network.form_names import FORMS, FormName
from ocl_edge_export.form_inputs import inputs_of_form
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_runtime.backends import open_backend

FIRST_MASK = """
import sys, time
start = time.perf_counter()
from ocl_edge.bundle.reading import Bundle
from ocl_edge_runtime.sources import NoiseSource
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions
imported = time.perf_counter()
session = open_session(Bundle.open(sys.argv[1]), SessionOptions(sys.argv[2], backend="onnxruntime"))
frame = next(iter(NoiseSource(360, 480, 1)))
session.predict(frame.image)
print(imported - start, time.perf_counter() - imported)
"""


def time_forms(
    bundle: Bundle, names: list[str], rounds: int, threads: int | None, clock: Callable[[], float]
) -> None:
    backends = {name: open_backend(bundle, name, threads).backend for name in names}
    frame = bundle.manifest.input
    image = torch.randn(1, 3, frame.height, frame.width)
    inputs = {form: inputs_of_form(bundle, form, image) for form in FORMS}
    works = [(name, form) for name in names for form in FORMS]
    times: dict[tuple[str, FormName], list[float]] = {work: [] for work in works}
    for index in range(rounds + 3):
        for name, form in works if index % 2 else works[::-1]:
            start = clock()
            backends[name].infer(form, inputs[form])
            if index >= 3:
                times[name, form].append(1000 * (clock() - start))
    print(f"\n{rounds} rounds, threads: {threads or 'all'}")
    print(f"{'backend':14}{'form':12}{'median ms':>10}   {'over its plain':24}over {names[0]}")
    for name, form in works:
        ours = np.array(times[name, form])
        over = [ratio_of(ours, times[other]) for other in ((name, FORMS[0]), (names[0], form))]
        print(f"{name:14}{form:12}{np.median(ours):10.1f}   {over[0]:24}{over[1]}")


def ratio_of(ours: NDArray[np.float64], theirs: list[float]) -> str:
    low, middle, high = np.percentile(ours / np.array(theirs), (10, 50, 90))
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def time_first_mask(bundle: Bundle) -> None:
    print("\nfrom opening the bundle (hashes verified) to the first mask, in new processes")
    for mode in ("frozen", "ocl-head"):
        runs = []
        for _ in range(3):
            command = [sys.executable, "-c", FIRST_MASK, str(bundle.path), mode]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs.append([float(value) for value in done.stdout.split()])
        imports, first = np.median(runs, axis=0)
        print(f"{mode:12}{first:6.2f} s, after {imports:.2f} s of imports")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--bundle", type=Path, help="an exported bundle; otherwise one is made")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--backends", default="onnxruntime")
    parser.add_argument("--cpu-time", action="store_true")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    with tempfile.TemporaryDirectory() as directory:
        bundle = (
            Bundle.open(arguments.bundle)
            if arguments.bundle
            else export_bundle(
                ExportRequest(
                    arguments.data / "models" / "espnetv2_s_2.0_city_1024x512.pth",
                    Path(directory) / "bundle",
                    input_size=(384, 512),
                )
            )
        )
        time_forms(bundle, arguments.backends.split(","), arguments.rounds, arguments.threads, clock)
        time_first_mask(bundle)


if __name__ == "__main__":
    main()
