#!/usr/bin/env python3
"""The lowest versions that pyproject.toml allows, as constraints for pip: what `make test-lowest` installs.

    python3 scripts/lowest_versions.py > lowest.txt

Where two requirements name one package, the higher bound counts: both hold where all extras are installed.
Needs Python 3.11 or later.
"""

from __future__ import annotations

import re
from pathlib import Path

import tomllib  # type: ignore[import-not-found, unused-ignore]  # from 3.11 on

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
BOUND = re.compile(r"(?P<name>[A-Za-z0-9._-]+)>=(?P<version>[0-9.]+)(\s*;.*)?")
OWN_EXTRAS = re.compile(r"ocl-edge\[[a-z0-9,]+\]")
NOT_TOGETHER = ("dev", "rerun", "gstreamer")
"""Not tried with the others: tools that judge the code, the Rerun SDK, which wants NumPy 2, and PyGObject,
which has to be compiled."""


def lowest_versions(pyproject: Path = PYPROJECT) -> dict[str, str]:
    """Package -> lowest version that every requirement on it allows.

    Raises:
        SystemExit: a requirement has no lower bound, or more than one.
    """
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    extras = [needs for name, needs in project["optional-dependencies"].items() if name not in NOT_TOGETHER]
    lowest: dict[str, str] = {}
    for requirement in [*project["dependencies"], *(each for extra in extras for each in extra)]:
        if OWN_EXTRAS.fullmatch(requirement):
            continue
        bound = BOUND.fullmatch(requirement)
        if bound is None:
            raise SystemExit(f"{requirement}: expected a package and its lowest version, NAME>=VERSION")
        name, version = bound["name"], bound["version"]
        lowest[name] = max(version, lowest.get(name, "0"), key=numbers)
    return lowest


def numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


def main() -> None:
    print("\n".join(f"{name}=={version}" for name, version in sorted(lowest_versions().items())))


if __name__ == "__main__":
    main()
