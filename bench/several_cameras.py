"""Several cameras on one engine against as many processes: frames a second, memory, and batches.

    python bench/several_cameras.py BUNDLE [--streams 1 2 4 6] [--frames N] [--mode frozen] [--json]

Frames are noise of the network's size and come as fast as they are taken; realtime mode learns on each. Both
ways run in processes of their own, in turns; a process loads and warms up before its time begins. Every
process may use ``--threads`` threads for an operator. ``batches`` times the plain form with one image and
with several in a batch, a frame's share of each.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from statistics import median
from typing import Any

import numpy as np
import torch

from ocl_edge.bundle.reading import Bundle
from ocl_edge_export.form_inputs import inputs_of_form
from ocl_edge_export.sample_images import noise_images
from ocl_edge_runtime.backends import open_backend
from ocl_edge_runtime.session.cameras import open_cameras
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions

BATCHES = (1, 2, 4)
BATCH_RUNS = 12


def run_streams(bundle: Bundle, streams: int, frames: int, mode: str, threads: int) -> dict[str, float]:
    """In this process: says "ready", waits for a line, and runs."""
    names = [f"camera{index}" for index in range(streams)]
    options = SessionOptions("frozen" if mode == "frozen" else "ocl-head", threads=threads, opening=1.0)
    realtime = None if mode == "frozen" else RealtimeOptions(adapt_every=1, statistics_limit=1e9)
    size = (bundle.manifest.input.height, bundle.manifest.input.width, 3)
    generator = np.random.default_rng(0)
    with open_cameras(bundle, names, options, realtime) as cameras:
        torch.set_num_threads(threads)
        cameras.warm_up()
        print("ready", flush=True)
        sys.stdin.readline()
        started = time.perf_counter()
        for _ in range(frames):
            cameras.step({name: generator.integers(0, 256, size, dtype=np.uint8) for name in names})
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def in_processes(arguments: argparse.Namespace, processes: int, streams: int) -> dict[str, float]:
    """Frames a second of all streams together, and the memory of all processes."""
    command = [sys.executable, __file__, arguments.bundle, "--mode", arguments.mode, "--child", str(streams)]
    command += ["--frames", str(arguments.frames), "--threads", str(arguments.threads)]
    pipe = subprocess.PIPE
    children = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(processes)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    found = [json.loads(child.communicate()[0]) for child in children]
    slowest = max(each["seconds"] for each in found)
    return {
        "frames_per_s": processes * streams * arguments.frames / slowest,
        "mib": sum(each["mib"] for each in found),
    }


def time_batches(bundle: Bundle, threads: int) -> dict[str, float]:
    """Milliseconds of a frame in batches of several sizes; they take turns."""
    images = noise_images(bundle.manifest.input, count=max(BATCHES))
    times: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    with open_backend(bundle, threads=threads).backend as backend:
        for run in range(BATCH_RUNS + 2):
            for batch in BATCHES[:: 1 if run % 2 else -1]:
                inputs = inputs_of_form(bundle, "plain", images[:batch].contiguous())
                started = time.perf_counter()
                backend.infer("plain", inputs)
                times[batch] += [1000 * (time.perf_counter() - started) / batch] if run > 1 else []
    return {str(batch): median(measured) for batch, measured in times.items()}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {"one engine": {}, "processes": {}}
    for _ in range(arguments.rounds):
        for count in arguments.streams:
            for way, shape in (("one engine", (1, count)), ("processes", (count, 1))):
                ran = in_processes(arguments, *shape)
                print(way, count, ran, file=sys.stderr, flush=True)
                found[way].setdefault(str(count), []).append(ran)
    for way in found.values():
        for count, rounds in way.items():
            way[count] = {name: median(each[name] for each in rounds) for name in rounds[0]}
    found["batches"] = time_batches(Bundle.open(arguments.bundle), arguments.threads)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("bundle")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4, 6])
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--mode", choices=["realtime", "frozen"], default="realtime")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        ran = run_streams(
            Bundle.open(arguments.bundle),
            arguments.child,
            arguments.frames,
            arguments.mode,
            arguments.threads,
        )
        print(json.dumps(ran))
        return
    found = measure(arguments)
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    for way in ("one engine", "processes"):
        for count, each in found[way].items():
            print(
                f"{way:12} {count:>2} streams: {each['frames_per_s']:6.2f} frames/s, {each['mib']:6.0f} MiB"
            )
    for batch, ms in found["batches"].items():
        print(f"plain form, batch of {batch}: {ms:.1f} ms a frame")


if __name__ == "__main__":
    main()
