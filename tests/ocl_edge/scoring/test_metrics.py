from __future__ import annotations

import numpy as np
import pytest

from ocl_edge.errors import UsageError
from ocl_edge.scoring.metrics import ConfusionMatrix


def slow_iou(
    pairs: list[tuple[np.ndarray, np.ndarray]], classes: int, ignore: int, class_map: list[int]
) -> list[float]:
    """Pixel by pixel, with sets of positions."""
    result = []
    for c in range(classes):
        intersection = union = labelled = 0
        for mask, labels in pairs:
            for y in range(mask.shape[0]):
                for x in range(mask.shape[1]):
                    if labels[y, x] == ignore:
                        continue
                    predicted, true = class_map[mask[y, x]] == c, labels[y, x] == c
                    intersection += predicted and true
                    union += predicted or true
                    labelled += true
        result.append(intersection / union if labelled else float("nan"))
    return result


def test_equals_a_slow_reference_over_several_frames() -> None:
    generator = np.random.default_rng(0)
    class_map = [2, 0, 1, 1, 9, 3]
    pairs = [
        (
            generator.integers(0, 6, (7, 9), dtype=np.uint8),
            generator.choice([0, 1, 2, 7], (7, 9)).astype(np.uint8),
        )
        for _ in range(3)
    ]
    matrix = ConfusionMatrix(4, ignore=7, class_map=np.array(class_map))
    for mask, labels in pairs:
        matrix.add(mask, labels)
    expected = slow_iou(pairs, 4, 7, class_map)
    assert np.isnan(expected[3])
    np.testing.assert_allclose(matrix.iou(), expected)
    assert matrix.miou() == pytest.approx(np.mean(expected[:3]))


def test_many_classes_are_scored_without_a_matrix_of_all_pairs() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 65535, (40, 50), dtype=np.uint16)
    mask = np.where(generator.random((40, 50)) < 0.5, labels, labels // 2).astype(np.uint16)
    matrix = ConfusionMatrix(65535, ignore=65535)
    matrix.add(mask, labels)
    assert matrix.counts.nbytes < 2 << 20
    for name in np.unique(labels)[:20]:
        ours, theirs = mask == name, labels == name
        assert matrix.iou()[name] == pytest.approx((ours & theirs).sum() / (ours | theirs).sum())


def test_a_class_that_is_only_predicted_counts_where_that_is_wanted() -> None:
    mask, labels = np.array([[0, 0, 1, 2]], np.uint8), np.array([[0, 0, 1, 1]], np.uint8)
    usual, published = ConfusionMatrix(4), ConfusionMatrix(4, predicted_too=True)
    for matrix in (usual, published):
        matrix.add(mask, labels)
    assert usual.miou() == pytest.approx((1 + 0.5) / 2)
    assert published.miou() == pytest.approx((1 + 0.5 + 0) / 3)


def test_a_prediction_that_fits_no_class_is_wrong() -> None:
    matrix = ConfusionMatrix(2, class_map=np.array([0, 1, 5]))
    matrix.add(np.array([[0, 2]], np.uint8), np.array([[0, 0]], np.uint8))
    assert matrix.iou()[0] == 0.5


def test_other_sizes_and_unknown_labels_are_refused() -> None:
    matrix = ConfusionMatrix(3, ignore=255)
    with pytest.raises(UsageError, match=r"\(2, 2\) and labels of \(2, 3\)"):
        matrix.add(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8))
    with pytest.raises(UsageError, match=r"\[7\] are neither classes \(0 to 2\)"):
        matrix.add(np.zeros((1, 2), np.uint8), np.array([[7, 255]], np.uint8))
    assert np.isnan(matrix.miou())
