"""What Ray costs a pass of an evaluation, and what a second worker gains.

    python bench/sweep.py BUNDLE --frames DIR --labels DIR [--limit N] [--passes N] [--rounds N] [--json]

Every line is whole processes of ``ocl-edge evaluate``, in turns: local, and on Ray with one worker and with
two. Each is run with one pass and with several, which differ in their seed; the difference tells a pass from
the start of Python and of Ray. A process may use as many CPUs as it has workers. Medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median


@dataclass(frozen=True)
class Way:
    """How passes are run: ``engine`` as of `evaluate`, on so many CPUs."""

    engine: str
    workers: int

    def __str__(self) -> str:
        return self.engine if self.engine == "local" else f"{self.engine}, {self.workers} workers"


WAYS = (Way("local", 1), Way("ray", 1), Way("ray", 2))


def seconds_of(way: Way, passes: int, arguments: argparse.Namespace) -> float:
    """Wall time of one `evaluate`, shell to shell."""
    command = [sys.executable, "-m", "ocl_edge", "evaluate", arguments.bundle, "--frames", arguments.frames]
    command += ["--labels", arguments.labels, "--methods", "ocl-head", "--opening", "1", "--threads", "1"]
    command += ["--seeds", ",".join(str(seed) for seed in range(passes)), "--engine", way.engine, "--quiet"]
    for name in ("label_map", "label_classes", "limit"):
        if (value := getattr(arguments, name)) is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    cpus = sorted(os.sched_getaffinity(0))[: way.workers]
    if len(cpus) < way.workers:
        raise SystemExit(f"{way} needs {way.workers} CPUs, there are {len(cpus)}")
    with tempfile.TemporaryDirectory() as directory:
        command += ["--json", str(Path(directory) / "results.json")]
        started = time.perf_counter()
        subprocess.run(
            command,
            check=True,
            stdout=subprocess.DEVNULL,
            preexec_fn=partial(os.sched_setaffinity, 0, cpus),
        )
        return time.perf_counter() - started


def measure(arguments: argparse.Namespace) -> list[dict[str, float | str]]:
    """Seconds of the first pass with the start, and of each further pass, for every way."""
    first: dict[Way, list[float]] = {way: [] for way in WAYS}
    further: dict[Way, list[float]] = {way: [] for way in WAYS}
    for _ in range(arguments.rounds):
        for way in WAYS:
            alone = seconds_of(way, 1, arguments)
            several = seconds_of(way, arguments.passes, arguments)
            first[way].append(alone)
            further[way].append((several - alone) / (arguments.passes - 1))
            print(f"{way}: {alone:.1f} s with one pass, {several:.1f} s with all", file=sys.stderr)
    local = median(further[WAYS[0]])
    return [
        {
            "way": str(way),
            "start and first pass, s": median(first[way]),
            "further pass, s": median(further[way]),
            "least": min(further[way]),
            "most": max(further[way]),
            "over local": median(further[way]) / local,
        }
        for way in WAYS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--frames", required=True)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--label-map", help="see `ocl-edge evaluate`")
    parser.add_argument("--label-classes", help="see `ocl-edge evaluate`")
    parser.add_argument("--limit", type=int, help="frames of a pass")
    parser.add_argument("--passes", type=int, default=9, help="of the longer evaluation, at least 2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = measure(arguments)
    if arguments.json:
        print(json.dumps(rows))
        return
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values()) + " |")


if __name__ == "__main__":
    main()
