"""Segmentation accuracy, accumulated frame by frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ocl_edge.errors import UsageError
from ocl_edge.masks import Mask, mask_dtype


class ConfusionMatrix:
    """Counts of (label, prediction) pairs: of the matrix those sums that IoU needs, for it may be huge.

    Args:
        classes: number of label classes; labels are 0 to ``classes - 1`` or ``ignore``.
        ignore: label value of pixels that are left out.
        class_map: predicted class -> label class; a prediction that maps outside
            0 to ``classes - 1`` is wrong everywhere. None: the same classes.
        predicted_too: a class that is predicted and never labelled counts, as 0.

    Attributes:
        counts: int64 [3, classes]: pixels of each class that are right, labelled so, predicted so.
    """

    def __init__(
        self,
        classes: int,
        ignore: int | None = None,
        class_map: NDArray[np.integer] | None = None,
        predicted_too: bool = False,
    ) -> None:
        self.predicted_too = predicted_too
        self.classes = classes
        self.ignore = ignore
        self.counts = np.zeros((3, classes), np.int64)
        mapped = np.arange(classes) if class_map is None else np.asarray(class_map)
        # every prediction has a place; the last column gathers what fits no class
        self._to_column = np.full(np.iinfo(mask_dtype(len(mapped))).max + 1, classes, np.int64)
        self._to_column[: len(mapped)] = np.where((mapped >= 0) & (mapped < classes), mapped, classes)

    def add(self, mask: Mask, labels: Mask) -> None:
        """Count one frame: predicted classes and labels, both [H, W].

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
        labelled, predicted = labels[known], self._to_column[mask[known]]
        for row, values in enumerate((labelled[labelled == predicted], labelled, predicted)):
            self.counts[row] += np.bincount(values, minlength=self.classes)[: self.classes]

    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of every class, NaN for a class that does not count: no label has it."""
        hits, labelled, predicted = self.counts.astype(np.float64)
        union = labelled + predicted - hits
        with np.errstate(invalid="ignore", divide="ignore"):
            counts = union > 0 if self.predicted_too else labelled > 0
            return np.where(counts, hits / union, np.nan)

    def miou(self) -> float:
        """Mean IoU over the classes that occur in the labels, 0 to 1; NaN without any label."""
        iou = self.iou()
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")
