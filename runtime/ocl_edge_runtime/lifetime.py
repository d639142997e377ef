"""What is opened is closed, on every way out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

Opened = TypeVar("Opened", bound="ClosedAtExit")


class ClosedAtExit(ABC):
    """Something that is open from its construction until `close`, and closed by the end of a ``with``."""

    @abstractmethod
    def close(self) -> None:
        """Free what this holds. Calling it twice is fine."""

    def __enter__(self: Opened) -> Opened:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
