"""What a report keeps of a run: bounded, whether the run lasts a minute or a month."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ocl_edge.masks import Mask
from ocl_edge.method.verdict import words_of_guard
from ocl_edge.timings import STAGES, UPDATE_STAGES, mask_latency_ms, update_ms
from ocl_edge_app.pictures import shrunk
from ocl_edge_app.report.plots import Moment
from ocl_edge_runtime.session.frames import Frame, FrameResult

SAMPLE = 10_000
MOST_MOMENTS = 400
FIRST_EVENTS = 40
LAST_EVENTS = 40
EXAMPLES = 4


class Reservoir:
    """A uniform sample of a stream of any length (algorithm R, Vitter 1985), the same for the same stream.

    Attributes:
        values: at most ``size``, all of them while there are fewer.
        seen: how many were added.
    """

    def __init__(self, size: int = SAMPLE) -> None:
        self.values: list[float] = []
        self.seen = 0
        self._size = size
        self._random = random.Random(0)

    def add(self, value: float) -> None:
        self.seen += 1
        if len(self.values) < self._size:
            self.values.append(value)
        elif (place := self._random.randrange(self.seen)) < self._size:
            self.values[place] = value


class Moments:
    """The time line of a run: at ``most`` moments (an even number) neighbours are put together, in pairs."""

    def __init__(self, most: int = MOST_MOMENTS) -> None:
        self._moments: list[Moment] = []
        self._most = most
        self._frames_each = 1

    def add(self, moment: Moment) -> None:
        """Append one frame."""
        if self._moments and self._moments[-1].frames < self._frames_each:
            self._moments[-1] += moment
            return
        if len(self._moments) == self._most:
            pairs = zip(self._moments[::2], self._moments[1::2], strict=True)
            self._moments = [first + second for first, second in pairs]
            self._frames_each *= 2
        self._moments.append(moment)

    def __iter__(self) -> Iterator[Moment]:
        return iter(self._moments)


@dataclass(frozen=True)
class Shot:
    """A frame and its mask, shrunk for a picture: uint8 [h, w, 3] and [h, w]."""

    index: int
    name: str
    image: NDArray[np.uint8]
    mask: Mask


class Shots:
    """Frames at even distances over a run whose length nobody knows: at most ``2 * wanted`` at a time."""

    def __init__(self, wanted: int = EXAMPLES) -> None:
        self._wanted = wanted
        self._kept: list[tuple[int, Shot]] = []
        self._step = 1
        self._seen = 0

    def add(self, frame: Frame, mask: Mask) -> None:
        """Keep the frame if it is its turn."""
        turn, self._seen = self._seen, self._seen + 1
        if turn % self._step:
            return
        if len(self._kept) == 2 * self._wanted:
            self._step *= 2
            self._kept = [(place, shot) for place, shot in self._kept if place % self._step == 0]
            if turn % self._step:
                return
        self._kept.append(
            (turn, Shot(frame.index, frame.name, shrunk(frame.image[..., :3]).copy(), shrunk(mask).copy()))
        )

    def chosen(self) -> list[Shot]:
        """``wanted`` of them, the first and the last included; all where there are fewer."""
        last = len(self._kept) - 1
        places = np.linspace(0, last, min(self._wanted, last + 1)).round().astype(int)
        return [self._kept[place][1] for place in places]


@dataclass(frozen=True)
class Event:
    """Something that a reader should know of: a frame, what was done, and why."""

    frame: str
    action: str
    reason: str


@dataclass
class Events:
    """The first and the last events, and how many there were of each action."""

    counts: Counter[str] = field(default_factory=Counter)
    first: list[Event] = field(default_factory=list)
    last: deque[Event] = field(default_factory=lambda: deque(maxlen=LAST_EVENTS))

    def add(self, event: Event) -> None:
        self.counts[event.action] += 1
        if len(self.first) < FIRST_EVENTS:
            self.first.append(event)
        else:
            self.last.append(event)

    @property
    def left_out(self) -> int:
        """Events between the first and the last ones."""
        return self.counts.total() - len(self.first) - len(self.last)


class StageMeans:
    """Mean milliseconds of every stage over the frames that were added."""

    def __init__(self) -> None:
        self.frames = 0
        self._sums: Counter[str] = Counter()

    def add(self, timings_ms: dict[str, float]) -> None:
        self.frames += 1
        self._sums.update(timings_ms)

    def means(self) -> dict[str, float]:
        """Stage -> mean, in the order of execution."""
        return {stage: self._sums[stage] / self.frames for stage in STAGES if stage in self._sums}


class RunRecorder:
    """Takes every frame of a run, and the frames that were left out."""

    def __init__(self) -> None:
        self.latency_ms, self.update_ms = Reservoir(), Reservoir()
        self.moments, self.shots = Moments(), Shots()
        self.guard, self.skips = Events(), Events()
        self.plain, self.updating = StageMeans(), StageMeans()

    def frame(self, frame: Frame, result: FrameResult) -> None:
        """Add a frame; its image and mask are only read."""
        landed = result.background
        verdict = landed.verdict if landed else result.verdict
        timings = result.timings_ms | (landed.timings_ms if landed else {})
        latency, update = mask_latency_ms(timings), update_ms(timings)
        adapted, undone = verdict.applied, verdict.undone
        self.latency_ms.add(latency)
        self.moments.add(Moment(1, latency, latency, update, int(adapted), int(undone), int(result.late)))
        if any(stage in timings for stage in UPDATE_STAGES):
            self.update_ms.add(update)
            self.updating.add(timings)
        else:
            self.plain.add(timings)
        if undone:
            self.guard.add(Event(_said(frame), verdict.reason.value, words_of_guard(verdict)))
        self.shots.add(frame, result.mask)

    def skip(self, name: str, reason: str) -> None:
        """Add a frame that could not be used."""
        self.skips.add(Event(name, "skipped", reason))


def _said(frame: Frame) -> str:
    return f"{frame.index} ({frame.name})"
