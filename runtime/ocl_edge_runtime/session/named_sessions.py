"""Several sessions that go together, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import TypeVar

from ocl_edge_runtime.lifetime import ClosedAtExit

Each = TypeVar("Each")


class NamedSessions(ClosedAtExit, Mapping[str, Each]):
    """Sessions by name, closed together.

    Args:
        sessions: by name.
        resources: closed with them.
    """

    def __init__(self, sessions: Mapping[str, Each], resources: ExitStack) -> None:
        self._sessions = dict(sessions)
        self._resources = resources

    def __getitem__(self, name: str) -> Each:
        return self._sessions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sessions)

    def __len__(self) -> int:
        return len(self._sessions)

    def close(self) -> None:
        self._resources.close()
