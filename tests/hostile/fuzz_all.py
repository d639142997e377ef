"""Hostile inputs of all kinds, in turns: python -m tests.hostile.fuzz_all --minutes 30.

Each turn is a process of its own with a new seed. What was found, and what a crash or a hang left, lies in
``--keep``; put it into tests/hostile/found/ with what mends it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from tests.doubles import small_network
from tests.doubles.bundles import export_small
from tests.hostile.kinds import KINDS

COUNTED = ("inputs", "taken", "refused", "wrong")
TURN_S = 60.0
STARTS_IN_S = 120.0


def one_turn(kind: str, bundle: Path, seconds: float, seed: int, keep: Path) -> dict[str, Any]:
    """What `tests.hostile.fuzz` reports, or that it crashed or hung."""
    command = [sys.executable, "-m", "tests.hostile.fuzz", kind, "--bundle", str(bundle), "--keep", str(keep)]
    command += ["--seconds", str(seconds), "--seed", str(seed)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + STARTS_IN_S)
        report: dict[str, Any] = json.loads(done.stdout)
        return report
    except (subprocess.TimeoutExpired, ValueError) as error:
        left = keep / f"{kind}-{seed}-ended.bin"
        at_work = keep / f"{kind}.at-work"
        if at_work.exists():
            at_work.replace(left)
        return {"kind": kind, "inputs": 0, "found": [{"file": left.name, "wrong": type(error).__name__}]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", type=Path, default=Path("out/hostile"))
    parser.add_argument("--kinds", default=",".join(KINDS))
    asked = parser.parse_args()
    kinds = asked.kinds.split(",")
    ends = time.monotonic() + 60 * asked.minutes
    totals: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    found: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = Path(directory) / "small.pth"
        torch.save(small_network.trained().state_dict(), checkpoint)
        bundle = export_small(Path(directory) / "bundle", checkpoint, stat_rows=1).path
        seconds = min(TURN_S, 60 * asked.minutes / len(kinds))
        for seed in range(asked.seed, 1 << 40):
            for kind in kinds:
                report = one_turn(kind, bundle, seconds, seed, asked.keep)
                totals[kind] += Counter(
                    {k: v for k, v in report.items() if isinstance(v, int) and k != "peak_mib"}
                )
                found += report["found"]
                sys.stdout.write(json.dumps(report) + "\n")
                sys.stdout.flush()
            if time.monotonic() > ends:
                break
    for kind, counts in totals.items():
        sys.stdout.write(f"{kind}: {', '.join(f'{count:,} {what}' for what, count in counts.items())}\n")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
