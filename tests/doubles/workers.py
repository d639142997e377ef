"""Workers whose work is done when a test says so."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any


class HandExecutor(Executor):
    """`land` runs what was submitted."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, lambda: work(*args, **kwargs)))
        return future

    def land(self) -> None:
        """The only one."""
        assert len(self.waiting) == 1
        self.land_first()

    def land_first(self) -> None:
        future, work = self.waiting.pop(0)
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)

    def land_all(self) -> None:
        while self.waiting:
            self.land_first()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.land_all()
