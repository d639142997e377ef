"""How a network without norms adapts forward: its head's input is moved home, as far as it is open."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocl_edge.method.head_input import HeadInput, means_of
from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge.network.form_names import FormName
from ocl_edge.network.form_tensors import features_among
from ocl_edge.tensors import Tensor
from ocl_edge_runtime.session.openness import Openness


class MovedInput:
    """A `NormPolicy` where there are no norms: every frame goes through the same graph.

    What is measured is the head's input, which every frame has; so every frame is followed.

    Args:
        openness: of the stream, by the distance of the head's input.
        head_input: its mean along the stream.
        form: of the backbone.
    """

    measured_at: float | None = None

    def __init__(self, openness: Openness, head_input: HeadInput, form: FormName) -> None:
        self.openness: Openness | None = openness
        self.way_home: Tensor | None = None
        self._openness = openness
        self._input = head_input
        self._form = form
        self._jumps = False

    def rests(self, image: NDArray[np.uint8], stream_s: float) -> bool:
        self._openness.rests(image, stream_s)
        return False

    def is_due(self, index: int, arrived_at: float, rests: bool) -> bool:  # noqa: ARG002
        return False

    def has_time_for_two(self, arrived_at: float) -> bool:  # noqa: ARG002
        return True

    def took(self, seconds: float) -> None:
        """Nobody asks."""

    def inputs(self, measured: bool) -> tuple[FormName, Mapping[str, Tensor]]:  # noqa: ARG002
        return self._form, {}

    def asks_again(self, outputs: Mapping[str, Tensor]) -> bool:
        """Never: at another opening the features would be the same, and are moved otherwise."""
        self._jumps = self._openness.jumps(means_of(features_among(outputs)))
        return False

    def take_in(
        self,
        outputs: Mapping[str, Tensor],
        arrived_at: float,
        again: bool = False,  # noqa: ARG002
    ) -> Verdict | None:
        """See `NormPolicy`: the frame itself counts in the mean that it is moved by."""
        means, opened = means_of(features_among(outputs)), self._openness.value
        if not math.isfinite(float(means.sum())):
            self.way_home = None
            return Verdict(Reason.FEATURES_NOT_FINITE)
        jumps, self._jumps = self._jumps, False
        before = None if jumps else self._openness.followed_at
        self._openness.follow(means, arrived_at, jumps)
        self._input.follow(means, None if before is None else arrived_at - before)
        self.way_home = self._input.way_home(opened)
        return None

    def export_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, facts = self._openness.export_state()
        return {"head_input": self._input.running, **tensors}, facts

    def import_state(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], now_s: float) -> None:
        self._input.running = tensors["head_input"]
        self._openness.import_state(tensors, facts, now_s)
