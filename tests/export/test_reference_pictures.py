"""Pictures of nothing, and how far from the trained statistics they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ocl_edge.bundle.reading import Bundle
from ocl_edge.method.norms import statistics_distance
from ocl_edge.network.batch_norms import trained_tensors
from ocl_edge.network.preprocess import InputSpec, noise_view
from ocl_edge_export.capture import capture
from ocl_edge_export.reference_pictures import PICTURES, discs_view, see_reference_pictures

FRAME = InputSpec(height=96, width=128, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def test_discs_hide_each_other_and_leave_areas_that_noise_has_not() -> None:
    discs, noise = discs_view(FRAME, 0), noise_view(FRAME)
    assert discs.shape == noise.shape == (1, 3, 96, 128)
    assert float(discs.min()) >= 0
    assert float(discs.max()) <= 1
    flat = [float((view.diff(dim=3).abs().amax(1) < 1e-6).float().mean()) for view in (discs, noise)]
    assert 0.9 < flat[0] < 0.99
    assert flat[1] == 0
    grey = float((discs == 0.5).all(1).float().mean())
    assert grey < 0.02  # the discs hide the ground


def test_a_picture_is_always_the_same_and_another_seed_gives_another() -> None:
    assert torch.equal(discs_view(FRAME, 1), discs_view(FRAME, 1))
    assert not torch.equal(discs_view(FRAME, 1), discs_view(FRAME, 2))


def test_discs_come_on_the_networks_scale_and_in_its_channels() -> None:
    frame = FRAME.model_copy(update={"mean": (100.0, 90.0, 80.0), "std": (2.0, 4.0, 8.0), "scale": 255})
    pixels = discs_view(FRAME, 3) * 255
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (frame.mean, frame.std))
    torch.testing.assert_close(discs_view(frame, 3), (pixels - mean) / std)
    thermal = InputSpec(height=32, width=40, colours="grey", mean=(0.4,), std=(0.2,))
    assert discs_view(thermal, 0).shape == (1, 1, 32, 40)


def test_the_distance_of_discs_is_the_mean_of_some_pictures_with_norms_unmixed(small_bundle: Bundle) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    backbone = capture(network, FRAME.height, FRAME.width)
    found = see_reference_pictures(backbone, FRAME, stat_rows=1)
    trained = trained_tensors(backbone)
    distances = []
    for seed in range(PICTURES):
        seen = network[0](discs_view(FRAME, seed)).detach()
        statistics = torch.stack((seen.mean((0, 2, 3)), seen.var((0, 2, 3))))
        distances.append(statistics_distance(statistics, torch.stack((trained["mean"], trained["var"]))))
    assert found.discs == pytest.approx(np.mean(distances), rel=1e-4)
    assert small_bundle.manifest.discs_distance is not None


def test_without_norms_there_is_no_distance() -> None:
    backbone = capture(nn.Conv2d(3, 4, 1).eval(), FRAME.height, FRAME.width)
    assert see_reference_pictures(backbone, FRAME, stat_rows=1) == (None, None)
