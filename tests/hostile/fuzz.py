"""Hostile inputs of one kind, as many as there is time for; each is judged.

    python -m tests.hostile.fuzz images --bundle DIR --seconds 60 --seed 3 --keep DIR

An input is well met if what reads it returns or raises an error of errors.py, within the time and the
memory, starts no process, opens no connection, and writes nowhere but in its place. The input lies in
``--keep`` while it is read, so that a crash leaves it there. Prints a JSON object: how many, how many were
refused, what was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from ocl_edge.errors import OclEdgeError
from ocl_edge_runtime.memory import peak_mib
from tests.hostile.kinds import KINDS

LONGEST_S = 20
MOST_MIB = 2048
FORBIDDEN = {
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn",
    "subprocess.Popen", "socket.connect", "socket.bind", "socket.getaddrinfo", "ctypes.dlopen", "os.remove",
    "os.rename", "os.symlink", "os.link", "os.chmod", "os.kill", "shutil.rmtree",
}  # fmt: skip
"""Events of `sys.addaudithook`; those on files are looked at."""

ON_FILES = ("os.remove", "os.rename", "os.symlink", "os.link", "os.chmod", "shutil.rmtree")


class Watch:
    """Sees what the interpreter does while an input is read."""

    def __init__(self, *places: Path) -> None:
        self.on = False
        self.seen: list[str] = []
        self._places = tuple(str(place.resolve()) for place in places)
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = (
                flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if mode is None else set(mode) & set("wax+")
            )
            if writes and not self._is_ours(path):
                self.seen.append(f"writes {path!r}")
        elif event in FORBIDDEN and not (event in ON_FILES and self._is_ours(arguments[0])):
            self.seen.append(f"{event} {arguments!r}"[:200])

    def _is_ours(self, path: Any) -> bool:
        return isinstance(path, int) or os.path.realpath(os.fsdecode(path)).startswith(self._places)


def out_of_time(_signal: int, _frame: object) -> None:
    raise TimeoutError


def judge(read: Any, content: bytes, watch: Watch) -> tuple[str, str | None]:
    """What became of an input, and what was wrong with that."""
    watch.seen.clear()
    signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
    watch.on = True
    outcome, wrong = "taken", None
    try:
        read(content)
    except OclEdgeError as error:
        outcome = "refused"
        if "Traceback" in str(error):
            wrong = f"a traceback in the message: {str(error)[:300]}"
    except BaseException as error:
        outcome, wrong = "wrong", f"{type(error).__name__}: {str(error)[:300]}"
    finally:
        watch.on = False
        signal.setitimer(signal.ITIMER_REAL, 0)
    if watch.seen:
        outcome, wrong = "wrong", "; ".join(watch.seen[:3])
    peak = peak_mib()
    if peak > MOST_MIB:
        outcome, wrong = "wrong", f"{peak:.0f} MiB"
    return outcome, wrong


def fuzz(
    name: str, bundle: Path, seconds: float, seed: int, keep: Path, most: int | None = None
) -> dict[str, Any]:
    """Read inputs of a kind for so long; see the module."""
    counts: Counter[str] = Counter()
    found: list[dict[str, str]] = []
    keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"hostile-{name}-") as directory:
        place = Path(directory)
        os.environ["XDG_CACHE_HOME"] = directory
        kind = KINDS[name](place, bundle)
        kind.warm_up()
        watch = Watch(place, Path(os.devnull))
        ends, number, at_work = time.monotonic() + seconds, 0, keep / f"{name}.at-work"
        while time.monotonic() < ends and number != most:
            content = kind.make(random.Random(f"{seed}:{number}"))
            at_work.write_bytes(content)
            outcome, wrong = judge(kind.read, content, watch)
            counts[outcome] += 1
            number += 1
            if wrong:
                file = keep / f"{name}-{seed}-{number}.bin"
                file.write_bytes(content)
                found.append({"file": file.name, "wrong": wrong})
                if "MiB" in wrong:
                    break  # the peak does not go back
        at_work.unlink(missing_ok=True)
    return {"kind": name, "inputs": number, **counts, "peak_mib": round(peak_mib()), "found": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int)
    parser.add_argument("--keep", type=Path, default=Path("out/hostile"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, out_of_time)
    shown, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115
    report = fuzz(asked.kind, asked.bundle, asked.seconds, asked.seed, asked.keep, asked.most)
    shown.write(json.dumps(report) + "\n")
    sys.exit(bool(report["found"]))


if __name__ == "__main__":
    main()
