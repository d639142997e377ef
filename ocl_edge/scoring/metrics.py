"""Segmentation accuracy, accumulated frame by frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ocl_edge.errors import UsageError


class ConfusionMatrix:
    """Counts of (label, prediction) pairs.

    Args:
        classes: number of label classes; labels are 0 to ``classes - 1`` or ``ignore``.
        ignore: label value of pixels that are left out.
        class_map: predicted class -> label class; a prediction that maps outside
            0 to ``classes - 1`` is wrong everywhere. None: the same classes.
    """

    def __init__(
        self, classes: int, ignore: int | None = None, class_map: NDArray[np.integer] | None = None
    ) -> None:
        self.classes = classes
        self.ignore = ignore
        self.counts = np.zeros((classes, classes + 1), np.int64)
        # every uint8 prediction has a place; the last column gathers what fits no class
        self._to_column = np.full(256, classes, np.int64)
        mapped = np.arange(classes) if class_map is None else np.asarray(class_map)
        self._to_column[: len(mapped)] = np.where((mapped >= 0) & (mapped < classes), mapped, classes)

    def add(self, mask: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Count one frame: predicted classes and labels, both uint8 [H, W].

        Raises:
            UsageError: the sizes differ, or a label is neither a class nor ``ignore``.
        """
        if mask.shape != labels.shape:
            raise UsageError(f"mask of {mask.shape} and labels of {labels.shape} do not match")
        known = labels < self.classes
        unknown = ~known if self.ignore is None else ~known & (labels != self.ignore)
        if unknown.any():
            raise UsageError(
                f"label values {np.unique(labels[unknown]).tolist()[:10]} are neither classes "
                f"(0 to {self.classes - 1}) nor the ignored value ({self.ignore})"
            )
        if self.ignore is not None and self.ignore < self.classes:
            known &= labels != self.ignore
        width = self.classes + 1
        pairs = labels[known].astype(np.int64) * width + self._to_column[mask[known]]
        self.counts += np.bincount(pairs, minlength=self.classes * width).reshape(self.classes, width)

    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of every class, NaN for a class that no label has."""
        hits = np.diagonal(self.counts).astype(np.float64)
        labelled = self.counts.sum(1)
        union = labelled + self.counts[:, : self.classes].sum(0) - hits
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(labelled > 0, hits / union, np.nan)

    def miou(self) -> float:
        """Mean IoU over the classes that occur in the labels, 0 to 1; NaN without any label."""
        iou = self.iou()
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")
