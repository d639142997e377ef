#!/usr/bin/env python3
"""Does the README suffice? Follows its commands to the letter on what looks like a fresh machine.

    python3 scripts/fresh_machine.py
    python3 scripts/fresh_machine.py --section 'Try it' --keep
    python3 scripts/fresh_machine.py --leave-out 'make test'

Clones the committed state of this repository into a temporary directory, then runs every
command block of the named README sections there, with an empty home, an empty pip cache
and a Python that holds nothing but pip. Of the environment only PATH and pip's own
network and index settings remain. Fails if a command fails. Needs Python and git alone.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = ["Try it", "Install"]
PIP_SETTINGS = (
    "cert", "client-cert", "default-timeout", "extra-index-url", "find-links",
    "index-url", "proxy", "timeout", "trusted-host",
)  # fmt: skip
INDENT = "    "


def commands_of(readme: str, section: str) -> list[str]:
    """The lines of the indented blocks under a heading.

    Raises:
        SystemExit: there is no such heading, or no command under it.
    """
    match = re.search(rf"^#+ {re.escape(section)}\n(.*?)(?=^#+ |\Z)", readme, re.MULTILINE | re.DOTALL)
    lines = match.group(1).splitlines() if match else []
    commands = [line.removeprefix(INDENT) for line in lines if line.startswith(INDENT)]
    if not commands:
        raise SystemExit(f"README.md has no commands under a heading {section!r}")
    return commands


def pip_settings() -> dict[str, str]:
    """Where pip looks for packages here, from all of its configuration, as PIP_ variables."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    lines = [line.partition("=") for line in listed.stdout.splitlines()]
    settings = {}
    # The environment beats the files, as it does for pip.
    for name, _, value in sorted(lines, key=lambda line: line[0].startswith(":env:")):
        option = name.rpartition(".")[2]
        if option in PIP_SETTINGS:
            settings[f"PIP_{option.upper().replace('-', '_')}"] = str(ast.literal_eval(value))
    return settings


def fresh_environment(home: Path, python: Path) -> dict[str, str]:
    """PATH with that Python first and no other virtual environment; an empty home; pip's settings."""
    active = os.environ.get("VIRTUAL_ENV")
    path = [entry for entry in os.environ["PATH"].split(os.pathsep) if not active or active not in entry]
    home.mkdir()
    return {
        "PATH": os.pathsep.join([str(python.parent), *path]),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        **pip_settings(),
    }


def follow(section: str, machine: Path, leave_out: str | None = None) -> float:
    """Run a section's commands in a new clone, all but ``leave_out``; returns the seconds they took.

    Raises:
        SystemExit: one of them failed.
    """
    clone = machine / "ocl-edge"
    subprocess.run(["git", "clone", "--quiet", "--no-local", str(ROOT), str(clone)], check=True)
    subprocess.run([sys.executable, "-m", "venv", str(machine / "python")], check=True)
    environment = fresh_environment(machine / "home", machine / "python" / "bin" / "python")
    commands = commands_of((clone / "README.md").read_text(encoding="utf-8"), section)
    script = "\n".join(["set -ex", *(command for command in commands if command != leave_out)])
    started = time.monotonic()
    done = subprocess.run(["sh", "-c", script], cwd=clone, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"README.md, {section!r}: the last command above failed with {done.returncode}")
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--section", action="append", help=f"README heading; default: {', '.join(SECTIONS)}")
    parser.add_argument("--leave-out", metavar="COMMAND", help="a command that ran elsewhere already")
    parser.add_argument("--keep", action="store_true", help="keep the temporary directory and name it")
    arguments = parser.parse_args()
    top = Path(tempfile.mkdtemp(prefix="fresh-machine."))
    try:
        for number, section in enumerate(arguments.section or SECTIONS):
            machine = top / str(number)
            machine.mkdir()
            seconds = follow(section, machine, arguments.leave_out)
            left_out = f" but {arguments.leave_out!r}" if arguments.leave_out else ""
            print(f"{section}: every command{left_out} worked, {seconds:.0f} s", flush=True)
    finally:
        if arguments.keep:
            print(f"kept {top}")
        else:
            shutil.rmtree(top)


if __name__ == "__main__":
    main()
