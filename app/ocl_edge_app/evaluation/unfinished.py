"""The pass that an evaluation is in, on disk: a killed evaluation goes on within it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ocl_edge.finite import finite
from ocl_edge.masks import Mask
from ocl_edge_app.evaluation.protocol import PassSoFar, Result
from ocl_edge_runtime.records.state import Saved, read_state, write_state
from ocl_edge_runtime.session.session import Session

SAVE_EVERY_S = 20.0
MASKS = ("latest", "earlier")
"""Of `PassSoFar`."""


class Unfinished:
    """Saves a pass from time to time, with all that its session has learned.

    Args:
        path: of the file; None keeps nothing.
        every_s: seconds between two saves.
        clock: seconds; replaced in tests.
    """

    def __init__(
        self,
        path: Path | None,
        every_s: float = SAVE_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self._every_s = every_s
        self._clock = clock
        self._saved_at = clock()

    def resume(self, key: str, session: Session) -> tuple[list[Result], PassSoFar | None]:
        """The finished rounds of a cell and its pass so far, whose learning the session takes over.

        Nothing where the file is of another cell or missing.

        Raises:
            StateError: the file is damaged.
        """
        if self.path is None or not self.path.exists():
            return [], None
        saved = read_state(self.path)
        if saved.facts["cell"] != key:
            return [], None
        tensors = dict(saved.tensors)
        counts = tensors.pop("counts").numpy()
        masks = {name: _as_mask(tensors.pop(name)) for name in MASKS if name in tensors}
        session.import_state(tensors, saved.facts["session"])
        so_far = PassSoFar(
            counts,
            Result.from_dict(saved.facts["result"]),
            saved.facts["next_index"],
            saved.facts["busy_until"],
            saved.facts["ready_at"],
            **masks,
        )
        return [Result.from_dict(result) for result in saved.facts["rounds"]], so_far

    def save_if_due(self, key: str, session: Session, rounds: list[Result], so_far: PassSoFar) -> None:
        """Write durably where the last save is ``every_s`` ago.

        Raises:
            OutputError: it cannot be written.
        """
        if self.path is None or self._clock() - self._saved_at < self._every_s:
            return
        learned, session_facts = session.export_state()
        tensors = learned | {"counts": torch.from_numpy(so_far.counts)}
        masks = {name: getattr(so_far, name) for name in MASKS}
        tensors |= {name: _as_tensor(mask) for name, mask in masks.items() if mask is not None}
        facts: dict[str, Any] = {
            "cell": key,
            "session": session_facts,
            "rounds": [result.as_dict() for result in rounds],
            "result": so_far.result.as_dict(),
            "next_index": so_far.next_index,
            "busy_until": so_far.busy_until,
            "ready_at": so_far.ready_at,
        }
        write_state(self.path, Saved(tensors, finite(facts)))
        self._saved_at = self._clock()

    def remove(self) -> None:
        """The pass is finished."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _as_tensor(mask: Mask) -> Tensor:
    """PyTorch does little with 16 bits that have no sign."""
    return torch.from_numpy(mask if mask.dtype == np.uint8 else mask.astype(np.int32))


def _as_mask(tensor: Tensor) -> Mask:
    mask: Mask = tensor.numpy()
    return mask if tensor.dtype is torch.uint8 else mask.astype(np.uint16)
