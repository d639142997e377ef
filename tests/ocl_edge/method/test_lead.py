"""The lead of the best class, and how it grows."""

from __future__ import annotations

import math

import pytest
import torch

from ocl_edge.method.lead import STRIDE, growth_of_lead, lead_of_best


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
    ("shut", "wide", "apart", "growth"),
    [(2.0, 2.5, 1.0, 0.25), (2.0, 1.5, 1.0, -0.25), (2.0, 2.25, 0.5, 0.25), (2.0, 0.0, 1.0, -1.0)],
)
def test_growth_is_a_share_of_the_lead_over_the_whole_way(
    shut: float, wide: float, apart: float, growth: float
) -> None:
    assert growth_of_lead(shut, wide, apart) == pytest.approx(growth)


@pytest.mark.parametrize(("shut", "wide"), [(0.0, 1.0), (math.nan, 1.0), (1.0, math.nan), (1.0, math.inf)])
def test_a_lead_that_is_none_has_no_growth(shut: float, wide: float) -> None:
    assert math.isnan(growth_of_lead(shut, wide, 1.0))
