"""The lead of the best class, and when it has grown."""

from __future__ import annotations

import math

import pytest
import torch

from ocl_edge.method.lead import GROWN, STRIDE, has_grown, lead_of_best


def test_it_is_the_mean_distance_of_the_best_class_from_the_second() -> None:
    logits = torch.zeros(1, 3, STRIDE, 2 * STRIDE)
    logits[0, :, 0, 0] = torch.tensor([5.0, 1.0, 4.0])
    logits[0, :, 0, STRIDE] = torch.tensor([-2.0, 3.0, -7.0])
    logits[0, 0, 1:, :] = 1e6  # between the pixels that count
    assert lead_of_best(logits) == pytest.approx((1 + 5) / 2)


def test_it_sees_both_views_and_no_gradient() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, 3.0]], requires_grad=True).view(2, 2, 1, 1)
    assert lead_of_best(logits) == pytest.approx(2)


def test_of_one_class_it_is_the_distance_from_zero() -> None:
    assert lead_of_best(torch.tensor([-3.0, 1.0]).view(2, 1, 1, 1)) == pytest.approx(2)


def test_an_equal_change_of_all_classes_changes_nothing() -> None:
    logits = torch.randn(1, 5, 9, 9, generator=torch.Generator().manual_seed(0))
    assert lead_of_best(logits + 7) == pytest.approx(lead_of_best(logits), rel=1e-5)


@pytest.mark.parametrize(
    ("shut", "open_", "apart", "grown"),
    [
        (1.0, 1 + GROWN + 0.01, 1.0, True),
        (1.0, 1 + GROWN - 0.01, 1.0, False),
        (1.0, 1 + GROWN - 0.01, 0.5, True),  # half of the way, half of the growth
        (1.0, 1 + GROWN / 2 - 0.01, 0.5, False),
        (0.0, 0.0, 1.0, False),
        (math.nan, 2.0, 1.0, False),
        (1.0, math.nan, 1.0, False),
    ],
)
def test_it_has_grown_by_a_share_of_itself(shut: float, open_: float, apart: float, grown: bool) -> None:
    assert has_grown(shut, open_, apart) is grown
