"""What a run leaves behind while it goes on: its journal and what it learned."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ocl_edge.errors import OutputError
from ocl_edge_runtime.records.journal import Journal
from ocl_edge_runtime.records.state import StateStore
from ocl_edge_runtime.session.frames import Frame, FrameResult, Landed


class RunRecords:
    """Writes the journal and, now and then, the state. A disk that fails costs records, never masks.

    Args:
        journal: None keeps none.
        store: None keeps no state.
        save_every_s: seconds between two saves.
        on_failure: told in words when writing begins to fail, and when it works again.
        now: seconds; replaced in tests.
    """

    def __init__(
        self,
        journal: Journal | None,
        store: StateStore | None,
        save_every_s: float,
        on_failure: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.save_every_s = save_every_s
        self.failed_saves = 0
        self.lost_lines = 0
        self._journal = journal
        self._store = store
        self._on_failure = on_failure
        self._now = now
        self._saved_at = now()
        self._failing: set[str] = set()

    def after_frame(self, frame: Frame, result: FrameResult) -> None:
        """Journal a frame; save if it is time to."""
        journal, store = self._journal, self._store
        if journal and not self._tried("journal", lambda: journal.frame(frame, result)):
            self.lost_lines += 1
        if store and self._now() - self._saved_at >= self.save_every_s:
            if not self._tried("state", store.save):
                self.failed_saves += 1
            self._saved_at = self._now()

    def settled(self, landed: Landed) -> None:
        """Journal a background update that was waited for after the last frame."""
        journal = self._journal
        if journal and not self._tried("journal", lambda: journal.background(landed)):
            self.lost_lines += 1

    def event(self, event: str, **content: Any) -> None:
        """Journal something beside the frames."""
        journal = self._journal
        if journal and not self._tried("journal", lambda: journal.write(event, **content)):
            self.lost_lines += 1

    @property
    def keeps_state(self) -> bool:
        """Whether `save` keeps anything."""
        return self._store is not None

    def save(self) -> None:
        """Save the state now.

        Raises:
            OutputError: it cannot be written; the one before stays.
        """
        if self._store:
            self._store.save()
            self._saved_at = self._now()

    def finish(self) -> None:
        """Save once more.

        Raises:
            OutputError: what was learned since the last save is lost.
        """
        if self.lost_lines:
            self._on_failure(f"the journal lacks {self.lost_lines} lines that could not be written")
        self.save()

    def _tried(self, what: str, write: Callable[[], None]) -> bool:
        try:
            write()
        except OutputError as error:
            if what not in self._failing:
                self._failing.add(what)
                self._on_failure(f"{error}; the run goes on and keeps trying")
            return False
        if what in self._failing:
            self._failing.remove(what)
            self._on_failure(f"the {what} can be written again")
        return True
