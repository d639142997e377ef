"""The mean of the head's input along a stream, and the way home."""

from __future__ import annotations

import math

import pytest
import torch

from ocl_edge.method.head_input import TAU_S, HeadInput, means_of, moved

HOME = torch.tensor([[1.0, 2.0], [0.5, 0.5]])


def test_means_are_those_of_channels_of_images_and_of_tokens() -> None:
    image, tokens = torch.randn(2, 3, 4, 5), torch.randn(2, 7, 6)
    expected = torch.cat((image.mean(3).mean(2).mean(0), tokens.mean(1).mean(0)))
    assert torch.allclose(means_of([image, tokens]), expected, atol=1e-6)


def test_moving_changes_every_channel_by_its_own_share_of_the_way() -> None:
    image, tokens = torch.zeros(1, 2, 3, 3), torch.zeros(1, 4, 2)
    way = torch.tensor([1.0, 2.0, 3.0, 4.0])
    first, second = moved([image, tokens], way)
    assert first[0, :, 1, 2].tolist() == [1, 2]
    assert second[0, 3].tolist() == [3, 4]
    assert moved([image], None)[0] is image


def test_the_distance_is_in_homes_deviations_over_the_border() -> None:
    """Deviations count with a tenth of their mean on top: 0.55."""
    head_input = HeadInput(HOME, border=2.0, share=1.0)
    assert head_input.distance(torch.tensor([2.1, 2.0])) == pytest.approx((1.1 / 0.55) / 2 / 2.0)


def test_where_nothing_varies_at_home_the_distance_is_a_number() -> None:
    head_input = HeadInput(torch.zeros(2, 3), border=0.0, share=1.0)
    assert head_input.distance(torch.zeros(3)) == 0
    assert head_input.distance(torch.ones(3)) > 1e6


def test_the_running_mean_goes_by_time_and_the_way_by_the_opening() -> None:
    head_input = HeadInput(HOME, border=1.0, share=0.5)
    head_input.follow(torch.tensor([3.0, 2.0]), None)
    assert head_input.running.tolist() == [3, 2]
    head_input.follow(torch.tensor([1.0, 2.0]), 1.0)
    assert head_input.running[0] == pytest.approx(1 + 2 * math.exp(-1 / TAU_S))
    way = head_input.way_home(0.4)
    assert way is not None
    assert way[0] == pytest.approx(0.4 * 0.5 * (1 - float(head_input.running[0])))
    assert head_input.way_home(0.0) is None
