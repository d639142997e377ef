#!/usr/bin/env python3
"""Does a bundle travel? Runs the desk's bundle and resumes its state in other systems' userlands.

    sudo python3 scripts/other_userland.py
    sudo python3 scripts/other_userland.py trixie --root /var/tmp/userlands

Builds the wheel once, then makes a Debian userland with debootstrap and installs the wheel in it:

    trixie   Python 3.13 and Debian's own PyTorch 2.6
    arm64    aarch64 under qemu-user: Python 3.11, PyTorch 2.3.1

There the demo's bundle of this machine runs on the demo's frames, and goes on from a state that
this machine saved. Fails if more than 0.1 % of the pixels differ from the masks of this machine.
Needs root, debootstrap and, for arm64, qemu-user-static; and `make setup`. Of this machine, files are
copied into the userland; nothing is mounted there but proc.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DESK = ROOT / ".venv" / "bin"
DEBIAN = "http://deb.debian.org/debian"
MOST_PIXELS = 0.001
FRAMES = 4
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
VERSIONS = "import platform as p, torch; print(p.machine(), p.python_version(), torch.__version__)"
WHERE = "trip"
"""Directory of the userland that holds bundle, frames and masks."""


@dataclass(frozen=True)
class Userland:
    """A Debian release on one kind of processor, and what pip brings into it.

    Attributes:
        suite: of Debian.
        architecture: as Debian names it.
        packages: from Debian.
        requirements: beside the wheel, for pip.
        platform: of the wheels, where this machine's pip fetches them, which an emulated one takes
            half an hour for; None: pip runs there.
        python: version, for the same.
        torch: likewise. This machine's pip would take its dependencies for this processor.
    """

    suite: str
    architecture: str
    packages: tuple[str, ...]
    requirements: tuple[str, ...]
    platform: str | None = None
    python: str | None = None
    torch: str | None = None


USERLANDS = {
    "trixie": Userland("trixie", "amd64", ("python3-venv", "python3-torch"), ("onnxruntime>=1.20",)),
    "arm64": Userland(
        "bookworm",
        "arm64",
        ("python3",),
        ("onnxruntime>=1.20", "numpy<2", "filelock", "fsspec", "networkx", "sympy", "typing-extensions"),
        platform="manylinux_2_28_aarch64 manylinux_2_27_aarch64 manylinux_2_17_aarch64 manylinux2014_aarch64",
        python="3.11",
        torch="torch==2.3.1",
    ),
}

RUNS = {
    "paper": "run bundle --source frames --mode paper --limit {frames} --sink masks:{masks}",
    "resumed": "run bundle --source frames --limit 1 --state state --resume yes --sink masks:{masks}",
}
LEARN = "run bundle --source frames --limit {frames} --adapt-every 1 --state state"
ALWAYS = "--backend onnxruntime --threads 1 --opening 1 --quiet"


def call(*command: str | Path, cwd: Path | None = None) -> None:
    """Run a command, shown as it starts.

    Raises:
        SystemExit: it failed.
    """
    print("+", *command, flush=True)
    if code := subprocess.run([str(word) for word in command], cwd=cwd, check=False).returncode:
        raise SystemExit(f"{command[0]} failed with {code}")


def at_the_desk(trip: Path) -> Path:
    """Make the wheel, a bundle, frames, a state and this machine's masks; returns the wheel."""
    call(DESK / "python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", trip, ROOT)
    call(DESK / "ocl-edge", "demo", "--frames", "12", "--out", trip / "demo", "--quiet")
    for name in ("bundle", "frames"):
        shutil.copytree(trip / "demo" / name, trip / name)
    shutil.rmtree(trip / "demo")
    call(DESK / "ocl-edge", *f"{LEARN.format(frames=FRAMES)} {ALWAYS}".split(), cwd=trip)
    saved = shutil.copytree(trip / "state", trip / "state-of-desk")
    run_all([DESK / "ocl-edge"], trip, "desk")
    shutil.rmtree(trip / "state")
    saved.rename(trip / "state")
    return next(trip.glob("*.whl"))


def run_all(program: list[str | Path], trip: Path | None, place: str) -> None:
    for name, run in RUNS.items():
        words = f"{run.format(frames=FRAMES, masks=f'{place}-{name}')} {ALWAYS}".split()
        call(*program, *words, cwd=trip)


def bootstrap(userland: Userland, root: Path) -> None:
    """Make the userland where it is not there yet, and give it this machine's network settings."""
    if not (root / ".complete").exists():
        packages = ",".join(("ca-certificates", "python3", *userland.packages))
        options = [f"--arch={userland.architecture}", "--variant=minbase", f"--include={packages}"]
        call("debootstrap", *options, userland.suite, root, DEBIAN)
        (root / ".complete").touch()
    for name in ("etc/resolv.conf", "etc/hosts", CERTIFICATES):
        shutil.copyfile(Path("/") / name, root / name)
    if userland.architecture == "arm64":  # oneDNN asks these what the processor can do
        cpus = root / "sys/devices/system/cpu"
        (cpus / "cpu0/regs/identification").mkdir(parents=True, exist_ok=True)
        (cpus / "cpu0/regs/identification/midr_el1").write_text("0x00000000410fd083\n")
        for name in ("possible", "present", "online"):
            (cpus / name).write_text("0\n")


def install(userland: Userland, root: Path, wheel: Path) -> list[str]:
    """Install the wheel and what it needs; returns the command that is ocl-edge there."""
    inside = f"/{WHERE}/{wheel.name}"
    if userland.platform is None:
        call("chroot", root, "python3", "-m", "venv", "--clear", "--system-site-packages", "/venv")
        pip = ["env", f"PIP_CERT=/{CERTIFICATES}", "/venv/bin/pip"]
        call("chroot", root, *pip, "install", "--quiet", inside, *userland.requirements)
        return ["/venv/bin/ocl-edge"]
    site = root / "site"
    shutil.rmtree(site, ignore_errors=True)
    platforms = [word for name in userland.platform.split() for word in ("--platform", name)]
    options = ["--quiet", "--only-binary=:all:", "--python-version", str(userland.python), *platforms]
    pip_here = (DESK / "python", "-m", "pip", "install", "--target", site)
    call(*pip_here, *options, "--no-deps", root / WHERE / wheel.name, str(userland.torch))
    call(*pip_here, *options, *needs_but_torch(wheel), *userland.requirements)
    return ["env", "PYTHONPATH=/site", "python3", "-m", "ocl_edge"]


def needs_but_torch(wheel: Path) -> list[str]:
    """What the wheel requires without any extra, PyTorch left out."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    needs = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    return [need for need in needs if "extra ==" not in need and not need.startswith("torch")]


def travel(name: str, root: Path, desk: Path, wheel: Path) -> None:
    """All of it for one userland.

    Raises:
        SystemExit: something failed, or masks differ.
    """
    userland = USERLANDS[name]
    bootstrap(userland, root)
    trip = root / WHERE
    shutil.rmtree(trip, ignore_errors=True)
    shutil.copytree(desk, trip)
    call("mount", "-t", "proc", "proc", root / "proc")
    try:
        program = install(userland, root, wheel)
        python = "/venv/bin/python" if userland.platform is None else "python3"
        call("chroot", root, "env", "PYTHONPATH=/site", python, "-c", VERSIONS)
        run_all(["chroot", root, "env", "-C", f"/{WHERE}", *program], None, name)
    finally:
        call("umount", root / "proc")  # before anything is removed
    for run in RUNS:
        share = share_that_differs(trip / f"desk-{run}", trip / f"{name}-{run}")
        print(f"{name}, {run}: {100 * share:.4f} % of the pixels differ from the desk's", flush=True)
        if not share <= MOST_PIXELS:
            raise SystemExit(f"more than {100 * MOST_PIXELS} %")


def share_that_differs(expected: Path, found: Path) -> float:
    """Of all pixels of two directories of masks; 1 where files are missing."""
    import numpy as np
    from PIL import Image

    names = sorted(file.name for file in expected.iterdir())
    if not names or names != sorted(file.name for file in found.iterdir()):
        return 1.0
    pairs = [[np.asarray(Image.open(place / name)) for place in (expected, found)] for name in names]
    if any(one.shape != other.shape for one, other in pairs):
        return 1.0
    return float(np.mean([np.mean(one != other) for one, other in pairs]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("userland", nargs="*", choices=[*USERLANDS, []], help="default: all")
    parser.add_argument("--root", type=Path, help="where userlands are kept; default: a temporary directory")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("needs root, for debootstrap and chroot")
    desk = Path(tempfile.mkdtemp(prefix="ocl-edge-desk."))
    place = arguments.root or Path(tempfile.mkdtemp(prefix="ocl-edge-userlands."))
    try:
        wheel = at_the_desk(desk)
        for name in arguments.userland or USERLANDS:
            travel(name, place / name, desk, wheel)
    finally:
        shutil.rmtree(desk)
        if not arguments.root and not any(os.path.ismount(place / name / "proc") for name in USERLANDS):
            shutil.rmtree(place)


if __name__ == "__main__":
    main()
