"""Several sessions that go together, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

from ocl_edge_runtime.lifetime import ClosedAtExit
from ocl_edge_runtime.session.session import Session


class NamedSessions(ClosedAtExit, Mapping[str, Session]):
    """Sessions by name, closed together.

    Args:
        sessions: by name.
        resources: closed with them.
    """

    def __init__(self, sessions: Mapping[str, Session], resources: ExitStack) -> None:
        self._sessions = dict(sessions)
        self._resources = resources

    def __getitem__(self, name: str) -> Session:
        return self._sessions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sessions)

    def __len__(self) -> int:
        return len(self._sessions)

    def close(self) -> None:
        self._resources.close()
