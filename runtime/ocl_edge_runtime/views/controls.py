"""What a person may ask of a running session. It happens on the frame loop's thread, between two frames."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Literal, get_args

from ocl_edge.errors import OutputError
from ocl_edge_runtime.session.session import Session

Action = Literal["freeze", "resume", "reset", "save"]
ACTIONS: tuple[Action, ...] = get_args(Action)
MOST_WAITING = 32


class Controls:
    """The requests for one session.

    Args:
        session: just made: what it is now, `reset` brings back.
        on_done: told what was done, and how it went.

    Attributes:
        last: what was done last, in words.
    """

    def __init__(self, session: Session, on_done: Callable[[Action, str], None] = lambda *_: None) -> None:
        self.last = ""
        self.save: Callable[[], None] | None = None
        """Keeps what was learned; None: the run keeps no state."""
        self._session = session
        self._untouched = session.export_state()
        self._on_done = on_done
        self._asked: SimpleQueue[Action] = SimpleQueue()
        self._paused_before_reset: bool | None = None

    @property
    def paused(self) -> bool:
        """Whether nothing is learned."""
        return self._session.paused

    def ask(self, action: Action) -> bool:
        """Ask from any thread; False where too much is asked already, or it cannot be done."""
        if self._asked.qsize() >= MOST_WAITING or (action == "save" and self.save is None):
            return False
        self._asked.put(action)
        return True

    def carry_out(self) -> None:
        """Do what was asked for; called after each frame."""
        if self._paused_before_reset is not None:
            self._reset()
            return
        while True:
            try:
                action = self._asked.get_nowait()
            except Empty:
                return
            if action == "reset":
                self._paused_before_reset = self._session.paused
                self._reset()
                return
            self._done(action, self._carried_out(action))

    def _carried_out(self, action: Action) -> str:
        if action != "save":
            self._session.paused = action == "freeze"
            return "nothing is learned" if action == "freeze" else "learning"
        try:
            if self.save is not None:
                self.save()
        except OutputError as error:
            return str(error)
        return "saved"

    def _reset(self) -> None:
        """An update in flight is not waited for: none begins until it has landed and was taken in."""
        assert self._paused_before_reset is not None
        session = self._session
        if session.updates.busy:
            session.paused = True
            return
        session.paused, self._paused_before_reset = self._paused_before_reset, None
        tensors, facts = self._untouched
        session.import_state(tensors, {**facts, "index": session.index, "skipped": session.policy.skipped})
        self._done("reset", "back to the trained network")

    def _done(self, action: Action, words: str) -> None:
        self.last = f"{action}: {words}"
        self._on_done(action, words)
