"""The segmenter and the norm policies with doubles: no network, every number by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ocl_edge.errors import FrameError
from ocl_edge.method.mixing import Mixing
from ocl_edge.method.norms import NormsAsTrained
from ocl_edge.method.opening import FixedOpening
from ocl_edge.method.verdict import Reason
from ocl_edge.network.preprocess import InputSpec, Preprocessor
from ocl_edge.network.tail import Tail
from ocl_edge.timings import MASK_STAGES, Stopwatch
from ocl_edge_runtime.session.norm_policy import MeasuredNorms, NormPolicy, TrainedNorms
from ocl_edge_runtime.session.norm_vectors import NormVectors
from ocl_edge_runtime.session.openness import Openness
from ocl_edge_runtime.session.options import RealtimeOptions
from ocl_edge_runtime.session.segmenter import Segmenter
from tests.doubles.clock import SimulatedClock
from tests.doubles.images import random_image
from tests.doubles.segmenter_parts import ColourBackbone, ColourHead

PLAIN_COLOURS = InputSpec(height=40, width=50, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def segmenter_of(norms: NormPolicy, backbone: ColourBackbone, pair: bool = False) -> Segmenter:
    parts = Preprocessor(PLAIN_COLOURS), backbone, norms, ColourHead(), Tail(False), Stopwatch()
    return Segmenter(*parts, pair=pair)


def openness(opening: float = 1.0) -> Openness:
    trained = NormsAsTrained(
        torch.zeros(3), *(torch.ones(3) for _ in range(2)), torch.zeros(3), torch.zeros(3)
    )
    return Openness(trained, Mixing(torch.full((2, 3), 0.5)), FixedOpening(opening), None)


def norm_vectors(norm_every: int = 1, limit: float = 1e9) -> NormVectors:
    options = RealtimeOptions(norm_every, statistics_limit=limit)
    return NormVectors(openness(), options, SimulatedClock())


@pytest.mark.parametrize("pair", [False, True])
def test_the_mask_is_the_strongest_class_of_every_pixel(pair: bool) -> None:
    image = random_image(0)
    seen = segmenter_of(TrainedNorms(), ColourBackbone(), pair).see(image)
    assert np.array_equal(seen.mask, image.argmax(2))
    assert seen.views.shape == (2 if pair else 1, 3, 40, 50)
    assert seen.unfit is None


def test_every_stage_has_one_lap() -> None:
    segmenter = segmenter_of(TrainedNorms(), ColourBackbone())
    segmenter.watch.start()
    segmenter.see(random_image(0))
    assert [span.stage for span in segmenter.watch.spans] == list(MASK_STAGES)


def test_the_norm_policy_chooses_form_and_inputs() -> None:
    backbone = ColourBackbone()
    segmenter_of(TrainedNorms(), backbone).see(random_image(0), measured=True)
    segmenter_of(MeasuredNorms(openness()), backbone).see(random_image(0), measured=False)
    realtime = segmenter_of(norm_vectors(), backbone)
    realtime.see(random_image(0), measured=True)
    realtime.see(random_image(0), measured=False)
    anchor = ["anchor_statistics", "anchor_weight", "image"]
    assert backbone.ran == [
        ("plain", ["image"]),
        ("measured", anchor),
        ("measured", anchor),
        ("modulated", ["image", "norm_vectors"]),
    ]


def test_vectors_follow_what_was_measured() -> None:
    norms = norm_vectors()
    image = random_image(0)
    segmenter_of(norms, ColourBackbone()).see(image, measured=True)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    mean, var = pixels.mean((0, 2, 3)), pixels.var((0, 2, 3))
    scale = (0.5 + 0.5 * var).rsqrt()  # half trained (variance 1), half measured
    assert torch.allclose(norms.vectors, torch.stack((scale, -0.5 * mean * scale)), atol=1e-5)


@pytest.mark.parametrize("measured", [True, False])
def test_features_that_are_not_finite_are_unfit_and_renew_nothing(measured: bool) -> None:
    backbone, norms = ColourBackbone(), norm_vectors()
    backbone.spoilt["features_0"] = torch.full((1, 3, 40, 50), torch.nan)
    vectors = norms.vectors
    seen = segmenter_of(norms, backbone).see(random_image(0), measured)
    assert seen.unfit is not None
    assert seen.unfit.reason is Reason.FEATURES_NOT_FINITE
    assert torch.equal(norms.vectors, vectors)


def test_statistics_that_are_too_far_are_refused_with_their_distance() -> None:
    norms = norm_vectors(limit=0.1)
    seen = segmenter_of(norms, ColourBackbone()).see(random_image(0), measured=True)
    assert seen.unfit is not None
    assert seen.unfit.reason is Reason.STATISTICS_TOO_FAR
    assert seen.unfit.distance is not None
    assert seen.unfit.distance > 0.1
    assert norms.refused == 1


def test_a_wrong_image_is_refused() -> None:
    with pytest.raises(FrameError, match="uint8"):
        segmenter_of(TrainedNorms(), ColourBackbone()).see(np.zeros((4, 4, 3)))  # type: ignore[arg-type]
