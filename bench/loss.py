"""The loss in linear time against the quadratic form that was published: time and peak memory.

    python bench/loss.py [--classes 19] [--memory-limit-gib 4]

One call each, value and gradient of both views, in a process of its own, so that the peak is the
call's: the growth of the largest resident set size. Where the Gram matrix is over the limit, its
size is computed: 4 bytes for each pair of pixels, one matrix at a time, nothing else counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

import torch
from torch import Tensor
from torch.nn import functional as F

from ocl_edge.method.ocl import output_contrastive_loss
from ocl_edge.method.settings import NEG_COEFF, POS_COEFF
from ocl_edge_runtime.memory import peak_mib

SIZES = ((32, 32), (64, 64), (96, 128), (192, 256), (256, 512), (512, 1024))


def quadratic_loss(view: Tensor, flipped_back: Tensor) -> Tensor:
    """The published form: the mean over an N x N Gram matrix a view."""
    q1, q2 = (F.normalize(z.softmax(0).flatten(1), dim=0) for z in (view, flipped_back))
    agreement = -(q1 * q2).sum(0).mean()
    spread = ((q1.T @ q1).mean() + (q2.T @ q2).mean()) / 2
    return POS_COEFF * agreement + NEG_COEFF * spread


LOSSES = {"linear": output_contrastive_loss, "quadratic": quadratic_loss}


def measure(form: str, classes: int, height: int, width: int, repeats: int) -> dict[str, float]:
    """In a fresh process: median seconds a call, and MiB that the largest resident set grew by."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    views = [torch.randn(classes, height, width, generator=generator).requires_grad_() for _ in range(2)]
    small = [torch.randn(classes, 2, 2, requires_grad=True) for _ in range(2)]
    LOSSES[form](*small).backward()  # type: ignore[no-untyped-call]
    before, times = peak_mib(), []
    for _ in range(repeats):
        for view in views:
            view.grad = None
        start = time.perf_counter()
        loss = LOSSES[form](*views)
        loss.backward()  # type: ignore[no-untyped-call]
        times.append(time.perf_counter() - start)
    return {"seconds": statistics.median(times), "mib": peak_mib() - before, "loss": loss.item()}


def in_new_process(*arguments: object) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", *map(str, arguments)]
    answer: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--memory-limit-gib", type=float, default=4.0, help="of one Gram matrix")
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        form, *numbers = arguments.measure
        print(json.dumps(measure(form, *map(int, numbers))))
        return
    print(f"{arguments.classes} classes, value and gradient of both views, float32, one thread")
    print(f"{'pixels':>10}{'linear ms':>11}{'MiB':>8}{'quadratic ms':>14}{'MiB':>10}{'memory ratio':>14}")
    for height, width in SIZES:
        linear = in_new_process("linear", arguments.classes, height, width, 7)
        gram_mib = 4 * (height * width) ** 2 / 2**20
        row = f"{f'{height}x{width}':>10}{1e3 * linear['seconds']:11.1f}{linear['mib']:8.1f}"
        if gram_mib > 1024 * arguments.memory_limit_gib:
            memory, ratio = f">{gram_mib:.0f}", f">{gram_mib / linear['mib']:.0f}"
            print(f"{row}{'':14}{memory:>10}{ratio:>14}", flush=True)
            continue
        quadratic = in_new_process("quadratic", arguments.classes, height, width, 3)
        if abs(quadratic["loss"] - linear["loss"]) > 1e-4 * abs(linear["loss"]):
            raise SystemExit(f"the two forms disagree: {linear['loss']} and {quadratic['loss']}")
        memory, ratio = f"{quadratic['mib']:.0f}", f"{quadratic['mib'] / max(linear['mib'], 0.1):.0f}"
        print(f"{row}{1e3 * quadratic['seconds']:14.1f}{memory:>10}{ratio:>14}", flush=True)


if __name__ == "__main__":
    main()
