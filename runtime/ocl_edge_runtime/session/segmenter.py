"""From a frame to its mask; knows nothing of updates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ocl_edge.masks import Mask
from ocl_edge.method.head import Head
from ocl_edge.method.head_input import moved
from ocl_edge.method.lead import lead_of_best
from ocl_edge.method.step import views_for_the_tail
from ocl_edge.method.verdict import Verdict
from ocl_edge.network.form_names import FormName
from ocl_edge.network.form_tensors import features_among
from ocl_edge.network.preprocess import Preprocessor, mask_of_frame
from ocl_edge.network.tail import Tail
from ocl_edge.tensors import Tensor, torch
from ocl_edge.timings import Stopwatch
from ocl_edge_runtime.session.norm_policy import NormPolicy


class Backbone(Protocol):
    """What the segmenter needs of a backend."""

    def infer(self, form: FormName, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `ocl_edge_runtime.backends.base.Backend.infer`."""


@dataclass(frozen=True)
class Seen:
    """What the segmenter made of a frame; valid until the next one.

    Attributes:
        mask: [H, W], class indices, see `ocl_edge.masks`, at the frame's size or as the session was told;
            the caller owns it.
        views: float32 [1, 3, h, w], or the view pair [2, 3, h, w].
        features: of the views, as the head gets them.
        logits: of the views, with gradients where the segmenter was told so.
        anchor: inputs of the measured form, as open as the frame was seen; none where there are no norms.
        opening: that it was seen at, 0 to 1 (`ocl_edge.method.opening`).
        distance: from home, of the last frame that was measured, this one included; None before the first.
        arrived_at: when it was there, seconds of stream time.
        unfit: why nothing may be learned from the frame; None where it is good.
        way_home: what was added to the features (`ocl_edge.method.head_input`); None where nothing was.
        again: it went through the backbone twice, for it was somewhere else than the stream before.
        compared: it did so to tell where it belongs (`ocl_edge_runtime.session.across`).
    """

    mask: Mask
    views: Tensor
    features: list[Tensor]
    logits: Tensor
    anchor: Mapping[str, Tensor]
    opening: float
    distance: float | None
    arrived_at: float
    unfit: Verdict | None = None
    way_home: Tensor | None = None
    again: bool = False
    compared: bool = False


@dataclass(frozen=True)
class Look:
    """What the backbone made of a frame, for the heads; valid until the next one.

    Attributes:
        frame: its height and width.
        outputs: of the form that it went through.
        seen: all but mask and logits of what is `Seen`, by its names.
        nearer_home: it was looked at again less open: what weather taught the head is of somewhere else.
    """

    frame: tuple[int, int]
    outputs: Mapping[str, Tensor]
    seen: Mapping[str, Any]
    nearer_home: bool = False


class Segments(Protocol):
    """What a session needs of a segmenter.

    Attributes:
        norms: how statistics enter the backbone.
        watch: receives the laps.
    """

    norms: NormPolicy
    watch: Stopwatch

    def see(
        self,
        image: NDArray[np.uint8],
        measured: bool = True,
        arrived_at: float = 0.0,
        twice: bool = False,
    ) -> Seen:
        """See `Segmenter.see`."""


class Segmenter:
    """Frame -> view or view pair -> features -> logits -> mask.

    Args:
        preprocessor: of the frames.
        backbone: that runs the forms; its outputs are valid until it runs the same form again.
        norms: the form that a frame goes through.
        head: features -> logits.
        tail: logits -> mask.
        watch: receives the laps preprocess, backbone, head and tail.
        pair: average the logits of the image and its flip.
        with_gradients: of the logits, for an update on them.
        mask_size: height and width of every mask; None: each frame's own.
        head_inputs: which of the backbone's features the head reads; None: all of them.

    Attributes:
        looked: at the last frame.
    """

    def __init__(
        self,
        preprocessor: Preprocessor,
        backbone: Backbone,
        norms: NormPolicy,
        head: Head,
        tail: Tail,
        watch: Stopwatch,
        *,
        pair: bool = False,
        with_gradients: bool = False,
        mask_size: tuple[int, int] | None = None,
        head_inputs: tuple[int, ...] | None = None,
    ) -> None:
        self.preprocessor = preprocessor
        self.backbone = backbone
        self.norms = norms
        self.head = head
        self.tail = tail
        self.watch = watch
        self._pair = pair
        self._with_gradients = with_gradients
        self._mask_size = mask_size
        self._head_inputs = head_inputs
        self.looked: Look | None = None

    def see(
        self,
        image: NDArray[np.uint8],
        measured: bool = True,
        arrived_at: float = 0.0,
        twice: bool = False,
    ) -> Seen:
        """Segment a frame.

        Args:
            image: uint8 [H, W, 3], RGB.
            measured: measure its own norm statistics, where the norm policy leaves the choice.
            arrived_at: when it was there, in seconds of stream time.
            twice: look again, at the opening that it wants, where it is somewhere else than the stream was.

        Raises:
            FrameError: the image is of another dtype or shape.
        """
        self.looked = self.look(image, measured, arrived_at, twice)
        return self.segment(self.looked)

    def look(self, image: NDArray[np.uint8], measured: bool, arrived_at: float, twice: bool = False) -> Look:
        """The part of `see` that heads of several outputs have in common."""
        views = self.preprocessor.pair(image) if self._pair else self.preprocessor.single(image)
        self.watch.lap("preprocess")
        form, inputs = self.norms.inputs(measured)
        outputs: Mapping[str, Tensor] = self.backbone.infer(form, {"image": views, **inputs})
        openness, again, compared = self.norms.openness, False, False
        before = openness.value if openness else 0.0
        if twice:
            outputs, again, compared = self._look_twice(views, outputs)
        opening, anchor = (openness.value, openness.anchor()) if openness else (0.0, {})
        seen = {
            "views": views,
            "anchor": anchor,
            "opening": opening,
            "arrived_at": arrived_at,
            "unfit": self.norms.take_in(outputs, arrived_at, again),
            "way_home": self.norms.way_home,
            "distance": openness.distance if openness else None,
            "again": again,
            "compared": compared,
        }
        self.watch.lap("backbone")
        return Look((image.shape[0], image.shape[1]), outputs, seen, again and opening < before)

    def _look_twice(
        self, views: Tensor, outputs: Mapping[str, Tensor]
    ) -> tuple[Mapping[str, Tensor], bool, bool]:
        """Outputs of a frame, whether they are of a second look, and whether that was to compare."""
        openness = self.norms.openness
        looks = openness.looks_across(outputs.get("statistics")) if openness else None
        if looks is None or openness is None:
            again = self.norms.asks_again(outputs)
            if again:
                form, inputs = self.norms.inputs(measured=True)
                outputs = self.backbone.infer(form, {"image": views, **inputs})
            return outputs, again, False
        own = {name: tensor.clone() for name, tensor in outputs.items()}
        across = self.backbone.infer("measured", {"image": views, **openness.anchor(looks.end)})
        moves = openness.compared(looks, self._lead(own), self._lead(across), across["statistics"])
        return (across if moves else own), moves, True

    def _lead(self, outputs: Mapping[str, Tensor]) -> float:
        """Of the trained head, which weather has taught nothing."""
        return lead_of_best(self.head.trained_logits(features_among(outputs, self._head_inputs)))

    def segment(self, look: Look) -> Seen:
        """The part of `see` that is this head's own; the trained one where a second look was nearer home."""
        features = moved(features_among(look.outputs, self._head_inputs), look.seen["way_home"])
        with torch.set_grad_enabled(self._with_gradients):
            logits = self.head.logits(features)
        of_probabilities = self.tail.of_probabilities
        shown = self.head.trained_logits(features) if look.nearer_home else logits.detach()
        averaged = views_for_the_tail(shown, of_probabilities) if self._pair else shown
        self.watch.lap("head")
        mask = mask_of_frame(
            lambda *size: self.tail.mask(averaged, *size),
            self.preprocessor.spec,
            look.frame,
            self._mask_size or look.frame,
        )
        self.watch.lap("tail")
        return Seen(mask=mask, features=features, logits=logits, **look.seen)
