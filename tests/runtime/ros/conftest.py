from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.doubles.dds import LOOPBACK

ROOT = Path(__file__).parents[3]
DOMAINS = itertools.count(20 + os.getpid() % 150)


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> str:
    """A domain of this test's own, on the loopback."""
    domain = str(next(DOMAINS))
    monkeypatch.setenv("CYCLONEDDS_URI", LOOPBACK.replace("<Domain>", f'<Domain Id="{domain}">'))
    monkeypatch.setenv("ROS_DOMAIN_ID", domain)
    return domain


Other = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def other(graph: str) -> Iterator[Other]:
    """Starts `tests.doubles.dds` in another process of the same graph; killed at the end of the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.doubles.dds", *map(str, arguments)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
