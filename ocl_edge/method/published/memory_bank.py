"""RoTTA's memory: few frames, of all classes alike, young and sure (paper, section 3.3)."""

from __future__ import annotations

import math

from ocl_edge.tensors import Tensor, torch


class MemoryBank:
    """Frames for a later update, changed in place.

    A frame takes the place of the worst of its own class, where that has its share of the places, else of
    the class that has most. The worst is the one with the largest ``1 / (1 + exp(-age / places)) +
    uncertainty / log(classes)``.

    Args:
        places: for so many frames.
        classes: that a frame may be of.
        image: shape of a preprocessed frame.
    """

    def __init__(self, places: int, classes: int, image: tuple[int, int, int]) -> None:
        self.classes = classes
        self.tensors = {
            "images": torch.zeros(places, *image),
            "class": torch.full((places,), -1),
            "age": torch.zeros(places),
            "uncertainty": torch.zeros(places),
        }

    def add(self, view: Tensor, of_class: int, uncertainty: float) -> None:
        """Take a frame [1, 3, h, w] in, if it is better than the worst; then all are a frame older."""
        place = self._place(of_class, uncertainty)
        if place is not None:
            self.tensors["images"][place] = view[0]
            self.tensors["class"][place] = of_class
            self.tensors["age"][place] = 0
            self.tensors["uncertainty"][place] = uncertainty
        self.tensors["age"] += 1

    def frames(self) -> list[tuple[Tensor, float]]:
        """What it holds: frames [1, 3, h, w], and their ages as a share of the places."""
        held = (self.tensors["class"] >= 0).nonzero().flatten().tolist()
        places = len(self.tensors["age"])
        return [(self.tensors["images"][i : i + 1], float(self.tensors["age"][i]) / places) for i in held]

    def _place(self, of_class: int, uncertainty: float) -> int | None:
        classes = self.tensors["class"]
        counts = torch.bincount(classes[classes >= 0], minlength=self.classes)
        if counts[of_class] < len(classes) / self.classes:
            if int(counts.sum()) < len(classes):
                return int((classes < 0).nonzero()[0])
            return self._worst(torch.isin(classes, (counts == counts.max()).nonzero()))[0]
        place, badness = self._worst(classes == of_class)
        return place if badness > self._badness(torch.tensor(0.0), torch.tensor(uncertainty)) else None

    def _worst(self, among: Tensor) -> tuple[int, float]:
        badness = self._badness(self.tensors["age"], self.tensors["uncertainty"])
        badness = badness.masked_fill(~among, -math.inf)
        return int(badness.argmax()), float(badness.max())

    def _badness(self, age: Tensor, uncertainty: Tensor) -> Tensor:
        return torch.sigmoid(age / len(self.tensors["age"])) + uncertainty / math.log(self.classes)
