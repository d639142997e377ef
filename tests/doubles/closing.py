"""What was closed."""

from __future__ import annotations

from typing import Any

import pytest


def note_closed(monkeypatch: pytest.MonkeyPatch, kind: type[Any]) -> list[Any]:
    """The objects of a class that were closed, in order; they are closed as ever."""
    closed: list[Any] = []
    close = kind.close

    def noted(one: Any) -> None:
        closed.append(one)
        close(one)

    monkeypatch.setattr(kind, "close", noted)
    return closed
