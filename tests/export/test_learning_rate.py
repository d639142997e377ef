from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ocl_edge.bundle.reading import Bundle, load_backbone, load_head
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge_export.learning_rate import REFERENCE, scaled_rate, squared_gradient_norm
from ocl_edge_export.sample_images import noise_images


def test_of_a_1x1_convolution_it_is_the_squared_norm_of_the_input_and_one_for_the_bias() -> None:
    head = nn.Conv2d(5, 3, 1)
    features = torch.full((1, 5, 4, 6), 2.0)
    assert squared_gradient_norm(head, [features]) == pytest.approx(5 * 4.0 + 1)


def test_it_averages_over_pixels() -> None:
    head = nn.Conv2d(1, 1, 1, bias=False)
    features = torch.arange(64.0).view(1, 1, 8, 8)
    assert squared_gradient_norm(head, [features]) == pytest.approx(float(features.square().mean()))


@pytest.mark.parametrize(
    ("norm", "rate"),
    [
        (REFERENCE, 0.05),
        (1.3 * REFERENCE, 0.05),
        (8 * REFERENCE, 0.005),
        (0.1 * REFERENCE, 0.05),
        (math.nan, 0.05),
        (0.0, 0.05),
    ],
)
def test_the_rate_falls_as_the_norm_grows_and_never_rises(norm: float, rate: float) -> None:
    assert scaled_rate(0.05, norm) == rate


def test_without_frames_two_images_of_noise_decide(small_bundle: Bundle) -> None:
    """One alone may be twice as far off, and the gate would see less."""
    assert small_bundle.manifest.parity["images_from"] == "noise"
    assert small_bundle.manifest.parity["images"] == 2
    with torch.no_grad():
        features = load_backbone(small_bundle)(noise_images(small_bundle.manifest.input))
    norm = squared_gradient_norm(load_head(small_bundle), list(features))
    assert small_bundle.manifest.adaptation.lr == scaled_rate(AdaptationDefaults().lr, norm)
