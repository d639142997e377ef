"""What a camera would see of measured times: late masks, and frames that nobody looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """How frames arrive.

    Attributes:
        rate: frames a second.
        deadline_ms: from a frame's arrival to its mask.
    """

    rate: float
    deadline_ms: float


@dataclass(frozen=True)
class Punctuality:
    """Frames that arrive at a rate, played through measured times.

    Attributes:
        late: share of the masks that came after their deadline, 0 to 1.
        passed_over: share of the frames that arrived while another was at work and were followed by a newer
            one, 0 to 1.
    """

    late: float
    passed_over: float


def played_at(pace: Pace, latencies_ms: Sequence[float], totals_ms: Sequence[float]) -> Punctuality:
    """Play the frames as a camera delivers them: the newest one wins, as in `LiveSource`.

    Args:
        pace: of the frames.
        latencies_ms: from the beginning of each frame to its mask.
        totals_ms: until the next frame can begin.
    """
    period = 1000 / pace.rate
    free, arrived, late, passed_over = 0.0, -1, 0, 0
    for latency, total in zip(latencies_ms, totals_ms, strict=True):
        newest = max(arrived + 1, int(free / period))
        passed_over += newest - arrived - 1
        arrived = newest
        began = max(free, arrived * period)
        late += began + latency > arrived * period + pace.deadline_ms
        free = began + total
    return Punctuality(late / len(totals_ms), passed_over / (passed_over + len(totals_ms)))
