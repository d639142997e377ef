"""How statistics enter the backbone: which form a frame goes through, with which inputs.

Frozen: the plain form. Paper: every view pair through the measured form, anchored at what training left.
Realtime: see `ocl_edge_runtime.session.norm_vectors`.
Paper and realtime weigh the trained statistics by the opening (`ocl_edge.method.opening`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ocl_edge.method.verdict import Verdict
from ocl_edge.network.form_names import FormName
from ocl_edge.tensors import Tensor
from ocl_edge_runtime.session.openness import Openness


class NormPolicy(Protocol):
    openness: Openness | None
    """How far the norms open; None where they never do."""

    measured_at: float | None
    """When statistics were last taken in, seconds of the clock."""

    way_home: Tensor | None
    """What is added to the head's input (`ocl_edge.method.head_input`); None where there are norms."""

    def rests(self, image: NDArray[np.uint8], stream_s: float) -> bool:
        """Whether a frame is at home, as far as that is known without measuring it; see `Openness.rests`."""

    def is_due(self, index: int, arrived_at: float, rests: bool) -> bool:
        """Whether a frame's own statistics are to be measured.

        Args:
            index: of the frame.
            arrived_at: when it was there, seconds of the clock.
            rests: what `rests` said of it.
        """

    def has_time_for_two(self, arrived_at: float) -> bool:
        """Whether a frame may be looked at twice, and its mask still meet the deadline."""

    def took(self, seconds: float) -> None:
        """A frame whose statistics were measured once had its mask after so long."""

    def inputs(self, measured: bool) -> tuple[FormName, Mapping[str, Tensor]]:
        """The form that a frame goes through, and its inputs beside the image."""

    def asks_again(self, outputs: Mapping[str, Tensor]) -> bool:
        """Whether the frame is to go through the measured form again, at another opening.

        Args:
            outputs: of the first look.
        """

    def take_in(
        self, outputs: Mapping[str, Tensor], arrived_at: float, again: bool = False
    ) -> Verdict | None:
        """Learn from what the backbone gave; why nothing may be learned from it, None where it is good.

        Args:
            outputs: of the form.
            arrived_at: when the frame was there, in seconds of stream time.
            again: they are of the second look.
        """

    def export_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors, and facts that fit into JSON."""

    def import_state(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], now_s: float) -> None:
        """Take over what `export_state` gave, with ``saved_at`` among the facts.

        The clock of another process starts elsewhere; what matters is the age of the measurement.
        """


class TrainedNorms:
    """Every frame goes through the plain form."""

    openness: Openness | None = None
    measured_at: float | None = None
    way_home: Tensor | None = None

    def rests(self, image: NDArray[np.uint8], stream_s: float) -> bool:  # noqa: ARG002
        return True

    def is_due(self, index: int, arrived_at: float, rests: bool) -> bool:  # noqa: ARG002
        return False

    def has_time_for_two(self, arrived_at: float) -> bool:  # noqa: ARG002
        return False

    def took(self, seconds: float) -> None:
        """Nobody asks."""

    def inputs(self, measured: bool) -> tuple[FormName, Mapping[str, Tensor]]:  # noqa: ARG002
        return "plain", {}

    def asks_again(self, outputs: Mapping[str, Tensor]) -> bool:  # noqa: ARG002
        return False

    def take_in(
        self,
        outputs: Mapping[str, Tensor],  # noqa: ARG002
        arrived_at: float,  # noqa: ARG002
        again: bool = False,  # noqa: ARG002
    ) -> Verdict | None:
        return None

    def export_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {}, {}

    def import_state(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], now_s: float) -> None:
        """There is nothing to take over."""


class MeasuredNorms:
    """Every frame goes through the measured form, mixed as far as it is open."""

    measured_at: float | None = None
    way_home: Tensor | None = None

    def __init__(self, openness: Openness) -> None:
        self.openness: Openness | None = openness
        self._openness = openness

    def rests(self, image: NDArray[np.uint8], stream_s: float) -> bool:
        self._openness.rests(image, stream_s)
        return False

    def is_due(self, index: int, arrived_at: float, rests: bool) -> bool:  # noqa: ARG002
        return True

    def has_time_for_two(self, arrived_at: float) -> bool:  # noqa: ARG002
        return True

    def took(self, seconds: float) -> None:
        """Nobody asks."""

    def inputs(self, measured: bool) -> tuple[FormName, Mapping[str, Tensor]]:  # noqa: ARG002
        return "measured", self._openness.anchor()

    def asks_again(self, outputs: Mapping[str, Tensor]) -> bool:
        return self._openness.jumps(outputs.get("statistics"))

    def take_in(
        self, outputs: Mapping[str, Tensor], arrived_at: float, again: bool = False
    ) -> Verdict | None:
        self._openness.follow(outputs.get("statistics"), arrived_at, again)
        return None

    def export_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self._openness.export_state()

    def import_state(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], now_s: float) -> None:
        self._openness.import_state(tensors, facts, now_s)
