"""One OCL step of a bundle's head: eager PyTorch against the head step graph in ONNX Runtime.

    python bench/head_step.py BUNDLE [--rounds N] [--threads N]

Both start from the features of a view pair and end with the new weights, restoration
included; interleaved in one process, medians with 10th and 90th percentile.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from ocl_edge.adapter import adapt_step
from ocl_edge.bundle import Bundle
from ocl_edge.head import TrainableHead
from ocl_edge.methods import find_method
from ocl_edge.programs import load_program
from ocl_edge.timings import Stopwatch
from ocl_edge_export.head_step import build_head_step, describe_head


def eager_step(bundle: Bundle, features: torch.Tensor) -> Callable[[], None]:
    settings = bundle.manifest.adaptation
    head = TrainableHead(load_program(bundle.file("head.pt2")), settings)
    loss = find_method("ocl-head").loss
    assert loss is not None
    watch = Stopwatch()

    def step() -> None:
        watch.start()
        adapt_step(head, head.logits([features]), loss, watch)

    return step


def graph_step(bundle: Bundle, features: torch.Tensor, threads: int) -> Callable[[], None]:
    settings = bundle.manifest.adaptation
    module = load_program(bundle.file("head.pt2"))
    head = describe_head(module)
    height, width = features.shape[2:]
    graph = build_head_step(head, height, width, settings.pos_coeff, settings.neg_coeff)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    state = {n: p.detach().numpy() for n, p in zip(head.parameters, module.parameters(), strict=True)}
    feeds = {f"{name}_source": value for name, value in state.items()}
    feeds |= {
        "lr": np.array([settings.lr], np.float32),
        "momentum": np.array([settings.momentum], np.float32),
    }
    feeds |= {"weight_decay": np.array([settings.weight_decay], np.float32), "features": features.numpy()}
    state |= {f"{name}_momentum": np.zeros_like(value) for name, value in state.items()}
    names = [output.name for output in session.get_outputs()]
    generator, shapes = np.random.default_rng(0), head.parameters

    def step() -> None:
        nonlocal state
        masks = {f"{n}_restored": generator.random(s) < settings.restoration for n, s in shapes.items()}
        outputs = dict(zip(names, session.run(names, {**feeds, **state, **masks}), strict=True))
        state = {name: outputs[f"new_{name}"] for name in state}

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    bundle = Bundle.open(arguments.bundle)
    features = torch.randn(2, *bundle.manifest.features[0], generator=torch.Generator().manual_seed(0))
    steps = {
        "eager": eager_step(bundle, features),
        "graph": graph_step(bundle, features, arguments.threads),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(arguments.rounds + 3):
        for name in list(steps)[:: 1 if index % 2 else -1]:
            start = time.perf_counter()
            steps[name]()
            times[name].append((time.perf_counter() - start) * 1e3)
    shape = list(features.shape)
    print(f"head step, features {shape}, {arguments.threads} thread(s), {arguments.rounds} rounds")
    for name, values in times.items():
        low, middle, high = np.percentile(values[3:], (10, 50, 90))
        print(f"  {name}: {middle:.1f} ms ({low:.1f} to {high:.1f})")
    ratios = np.array(times["graph"][3:]) / np.array(times["eager"][3:])
    print("  graph / eager: {:.2f} ({:.2f} to {:.2f})".format(*np.percentile(ratios, (50, 10, 90))))


if __name__ == "__main__":
    main()
