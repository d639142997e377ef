"""How far a session is open, and what its norms are mixed with there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ocl_edge.method.head_input import HeadInput
from ocl_edge.method.home import DiscsDistances, HomeDistances, SensingNorms, StatisticsLimits, opening_wanted
from ocl_edge.method.mixing import Mixing
from ocl_edge.method.norms import NormsAsTrained
from ocl_edge.method.opening import OPENED, Opening
from ocl_edge.network.form_tensors import WEIGHTS
from ocl_edge.tensors import Tensor
from ocl_edge_runtime.session.across import HALF, Across, Comparison
from ocl_edge_runtime.session.glance import Glance

REST_S = 1.0
"""At home, norms are measured so often, seconds of stream time, where no frame looks new (`Glance`)."""


class _Wishes(NamedTuple):
    """How far open a frame is best seen, 0 to 1.

    Attributes:
        wanted: by its norms.
        nearer_home: where it is looked at if it wants less: unmixed, all norms tell, too, if they tell shut.
        of_sensing: by the sensing norms.
    """

    wanted: float
    nearer_home: float
    of_sensing: float


def _wishes(
    distance: float, all_norms: HomeDistances | DiscsDistances, statistics: Tensor, opening: float
) -> _Wishes:
    """Of a frame that the sensing norms find so far away, measured at an opening."""
    most, least = all_norms.openings_at(statistics.cpu(), opening)
    of_sensing = opening_wanted(distance, (most, 0.0), opening)
    wanted = max(least, of_sensing)
    return _Wishes(wanted, least if all_norms.tell_shut else wanted, of_sensing)


class Openness:
    """The opening of a stream, fed with what its frames measure.

    Args:
        trained: what training left in the norms.
        mixing: of the norms, where the session is wide open.
        opening: that follows.
        sensing: tells the distance from home of what frames measure; None where nothing does.
        limits: of statistics; None leaves them as they are.
        rows: of the measured form's ``anchor_weight``: one in a converted bundle, whose form knows no other.
        all_norms: how far they let it open at most and at least; None: they do not tell.

    Attributes:
        distance: of the last frame that was measured, from home; None before the first.
        followed_at: when that was there, seconds of stream time.
        looks_new: whether the picture of this frame differs from the one that was measured last.
        across: what looks at another opening found.
    """

    def __init__(
        self,
        trained: NormsAsTrained,
        mixing: Mixing,
        opening: Opening,
        sensing: SensingNorms | HeadInput | None,
        limits: StatisticsLimits | None = None,
        rows: int = WEIGHTS,
        all_norms: HomeDistances | DiscsDistances | None = None,
    ) -> None:
        self.trained = trained
        self.distance: float | None = None
        self.followed_at: float | None = None
        self.looks_new = False
        self._mixing = mixing
        self._opening = opening
        self._sensing = sensing
        self.limits = limits or StatisticsLimits()
        self._rows = rows
        self._all_norms = all_norms or DiscsDistances(trained.statistics, None)
        self._frames = 0
        self._now_s = 0.0
        self._glance = Glance()
        self.across = Across()

    @property
    def value(self) -> float:
        """For the next frame, 0 to 1."""
        return self._opening.value

    @property
    def at_home(self) -> bool:
        """Whether what the head learned is to go."""
        return self._opening.at_home

    def rests(self, image: NDArray[np.uint8], stream_s: float) -> bool:
        """Whether a frame is at home, as far as that is known without measuring it.

        That is so for `REST_S` after frames that were at home, while none looks new.

        Args:
            image: uint8 [H, W, 3].
            stream_s: when it was there, seconds of stream time.
        """
        self._now_s = stream_s
        self.looks_new = self._opening.follows and self._glance.looks_new(image)
        if not self._opening.rests or self.followed_at is None:
            return False
        return not self.looks_new and 0 <= stream_s - self.followed_at < REST_S

    def weight_at(self, opening: float) -> Tensor:
        """``anchor_weight`` of the measured form at an opening, float32 [3, S]."""
        return self._mixing.at(opening)

    def limit_at(self, limit: float, opening: float) -> float:
        """The limit of statistics that were measured at an opening."""
        return self.limits.at(limit, opening)

    def anchor(self, opening: float | None = None) -> dict[str, Tensor]:
        """Inputs of the measured form beside the image, as open as told; none where there are no norms."""
        if not self.trained.mean.numel():
            return {}
        weight = self.weight_at(self.value if opening is None else opening)
        return {"anchor_statistics": self.trained.statistics, "anchor_weight": weight[: self._rows]}

    def jumps(self, statistics: Tensor | None) -> bool:
        """Whether a frame is somewhere else than the stream was; `value` then is where, for this very frame.

        So it is where its distance wants another opening: towards home any frame whose picture looks new,
        away from it one that `Opening.grants` as much.

        Args:
            statistics: as for `follow`.
        """
        granted = self._opening.grants(self._since(self._now_s))
        if not self.looks_new and granted - self.value <= OPENED:  # most frames: nothing is computed
            return False
        wishes = self._norms_wish(statistics)
        if wishes is None:
            return False
        wanted = max(wishes.wanted, self.across.wish(self._now_s))
        if wanted > self.value:
            wanted = min(wanted, granted)
        elif not self.looks_new:
            return False
        if abs(wanted - self.value) <= OPENED:
            return False
        self._opening.jump(wishes.nearer_home if wanted < self.value else wanted)
        return True

    def looks_across(self, statistics: Tensor | None) -> Comparison | None:
        """A look at this frame from elsewhere, where its norms, as for `follow`, do not tell enough.

        They do not where they keep a session shut that sees more than home, where they would close one, or
        where all of them hold one open in which the sensing ones see home. None: they do.
        """
        due = self.across.is_due(self._now_s, self.looks_new)
        wishes = self._norms_wish(statistics) if due else None
        if wishes is None or statistics is None:
            return None
        wanted, opening = wishes.wanted, self.value
        if opening - wanted > OPENED and (self.looks_new or self.across.wish(self._now_s) > 0):
            return Comparison(opening, wishes.nearer_home, wanted)
        if opening > HALF and wanted > HALF and wishes.of_sensing < OPENED:
            return Comparison(opening, wishes.of_sensing, wanted)
        granted = self._opening.grants(self._since(self._now_s))
        if opening > HALF or min(wanted, granted) - opening > OPENED:
            return None  # it is open, or jumps
        sees_more = wanted - opening > OPENED or self._all_norms.beyond_home(statistics.cpu(), opening)
        return Comparison(opening, 1.0, wanted) if sees_more else None

    def compared(self, looks: Comparison, own: float, across: float, statistics: Tensor) -> bool:
        """Take in both looks at a frame; whether it belongs to the second, where `value` then is.

        Args:
            looks: that `looks_across` asked for.
            own: `lead_of_best` of the first look.
            across: of the second.
            statistics: of the second; the session stays open where all norms hold it open nearer home, too.
        """
        moves = self.across.take(self._now_s, looks, own, across)
        if looks.end < looks.opening:
            moves &= self._all_norms.openings_at(statistics.cpu(), looks.end)[1] - looks.end <= OPENED
        if moves:
            self._opening.jump(looks.end)
        return moves

    def _norms_wish(self, statistics: Tensor | None) -> _Wishes | None:
        """How far open the norms want a frame; None where nothing tells."""
        if statistics is None or self._sensing is None or not self._opening.follows:
            return None
        distance = self._sensing.distance(statistics)
        if not math.isfinite(distance):
            return None
        return _wishes(distance, self._all_norms, statistics, self.value)

    def _since(self, moment: float) -> float:
        """Seconds of stream time since the last frame that was measured; 0 before the first."""
        return 0.0 if self.followed_at is None else moment - self.followed_at

    def follow(self, statistics: Tensor | None, arrived_at: float, at_once: bool = False) -> None:
        """Take in a frame.

        Args:
            statistics: that it measured, float32 [2, S], or `means_of` the head's input; None where it
                measured none.
            arrived_at: when it was there, seconds of stream time.
            at_once: it has jumped, and was measured where it belongs.
        """
        self._frames += 1
        if statistics is None or self._sensing is None:
            return
        self.distance = self._sensing.distance(statistics)
        wishes = _wishes(self.distance, self._all_norms, statistics, self.value)
        wanted = max(wishes.wanted, self.across.wish(arrived_at))
        if at_once:
            self._opening.jump(wanted)
        else:
            self._opening.follow(wanted, self._since(arrived_at), self._frames)
        self.followed_at, self._frames = arrived_at, 0
        self._glance.keep()

    def export_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors, and facts that fit into JSON."""
        tensors = self._opening.export_state()
        if not tensors:
            return {}, {}
        facts = {"followed_at": self.followed_at, "frames_since": self._frames, **self.across.export_state()}
        return tensors | self._glance.export_state(), facts

    def import_state(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], now_s: float) -> None:
        """Take over what `export_state` gave; a state that has none of it begins anew. See `moved`."""
        self._opening.import_state(dict(tensors))
        self._glance.import_state(tensors)
        self.distance = None
        self.followed_at = moved(facts.get("followed_at"), facts["saved_at"], now_s)
        self._frames = facts.get("frames_since", 0)
        self.across.import_state(facts, moved(facts.get("looked_across_at"), facts["saved_at"], now_s))


def moved(moment: float | None, saved_at: float, now_s: float) -> float | None:
    """A moment of a state, on a clock that shows ``now_s`` where the one before showed ``saved_at``."""
    if moment is None or now_s == saved_at:
        return moment
    return now_s - (saved_at - moment)
