"""Looks at a frame at another opening, wide or nearer home: what they tell, and when the next one is due."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ocl_edge.method.lead import growth_of_lead
from ocl_edge.method.opening import OPENED

GROWN = 0.12
"""Growth of the lead, as a share of it, that opens whatever the norms want (docs/ablation.md)."""
HALF = 0.5
"""Beyond this opening a session is wide open rather than shut."""
SOON_S, LATE_S = 1.0, 5.0
"""Seconds of stream time until the next look: where the picture looks new or the last look opened, and else.
What it found holds as long as the latter."""


@dataclass(frozen=True)
class Comparison:
    """Two looks at one frame.

    Attributes:
        opening: of the first look, 0 to 1.
        end: of the second: 1, or nearer home than the first.
        norms_want: how far open the frame is best seen by its norms alone.
    """

    opening: float
    end: float
    norms_want: float


class Across:
    """What looks at another opening found along a stream.

    Attributes:
        looked_at: when the last one was, seconds of stream time; None before the first.
    """

    def __init__(self) -> None:
        self.looked_at: float | None = None
        self._opens = False

    def is_due(self, now_s: float, looks_new: bool) -> bool:
        """Whether a frame may be compared.

        Args:
            now_s: when it was there, seconds of stream time.
            looks_new: its picture differs from the one that was measured last.
        """
        return not 0 <= self._since(now_s) < (SOON_S if self._opens or looks_new else LATE_S)

    def wish(self, now_s: float) -> float:
        """How far open frames are best seen by the last look: 1, or 0 where it found nothing, or long ago."""
        return float(self._opens and self._since(now_s) < LATE_S)

    def take(self, now_s: float, looks: Comparison, own: float, across: float) -> bool:
        """Take in what both looks gave; whether the frame belongs to the second.

        It belongs wide open where the lead of the best class grows much by opening, or does not shrink
        and the norms want it wide open as well. It belongs nearer home unless the lead grows much; where the
        norms would shut what is wide open, it must shrink by opening. Else the norms are followed.

        Args:
            now_s: as for `is_due`.
            looks: at which openings.
            own: `ocl_edge.method.lead.lead_of_best` of the first look.
            across: of the second.
        """
        opens = looks.end > looks.opening
        shut, wide = (own, across) if opens else (across, own)
        growth = growth_of_lead(shut, wide, abs(looks.end - looks.opening))
        self.looked_at, self._opens = now_s, growth > GROWN
        if opens:
            return self._opens or (growth >= 0 and looks.norms_want > 1 - OPENED)
        shuts = looks.opening > HALF and looks.end < OPENED
        return not self._opens and (growth < 0 or not shuts)

    def _since(self, now_s: float) -> float:
        return math.inf if self.looked_at is None else now_s - self.looked_at

    def export_state(self) -> dict[str, Any]:
        """Facts that fit into JSON."""
        return {"opens_by_lead": self._opens, "looked_across_at": self.looked_at}

    def import_state(self, facts: Mapping[str, Any], looked_at: float | None) -> None:
        """Take over what `export_state` gave, with the moment on this clock."""
        self._opens, self.looked_at = facts.get("opens_by_lead", False), looked_at
