"""RoTTA's memory: classes alike, the old and unsure go first."""

from __future__ import annotations

import math

import torch

from ocl_edge.method.published.memory_bank import MemoryBank

SHAPE = (3, 2, 2)


def frame(value: float) -> torch.Tensor:
    return torch.full((1, *SHAPE), value)


def held(bank: MemoryBank) -> set[float]:
    return {float(image[0, 0, 0, 0]) for image, _ in bank.frames()}


def test_a_class_has_its_share_of_the_places() -> None:
    """Four places for two classes: the third frame of a class takes the place of that class's worst."""
    bank = MemoryBank(4, 2, SHAPE)
    bank.add(frame(1), 0, uncertainty=0.1)
    bank.add(frame(2), 0, uncertainty=0.6)
    bank.add(frame(3), 0, uncertainty=0.1)
    assert held(bank) == {1, 3}
    bank.add(frame(4), 0, uncertainty=9.0)  # worse than all that is there
    assert held(bank) == {1, 3}
    bank.add(frame(5), 1, uncertainty=9.0)
    assert held(bank) == {1, 3, 5}


def test_the_worst_is_old_and_unsure_as_the_paper_weighs_them() -> None:
    bank = MemoryBank(2, 1, SHAPE)
    bank.classes = 4  # for the logarithm; all frames are of class 0, whose share is half a place
    bank.tensors["class"][:] = 0
    bank.tensors["images"][0], bank.tensors["images"][1] = 1.0, 2.0
    bank.tensors["age"][:] = torch.tensor([6.0, 1.0])
    bank.tensors["uncertainty"][:] = torch.tensor([0.0, 0.5])
    old = 1 / (1 + math.exp(-6 / 2)) + 0 / math.log(4)
    unsure = 1 / (1 + math.exp(-1 / 2)) + 0.5 / math.log(4)
    assert unsure > old
    bank.add(frame(3), 0, uncertainty=0.0)
    assert held(bank) == {1, 3}


def test_a_new_class_takes_the_place_of_the_most_frequent_one() -> None:
    bank = MemoryBank(3, 3, SHAPE)
    for value, of_class in ((1, 0), (2, 1)):
        bank.add(frame(value), of_class, 0.0)
    bank.tensors["class"][2] = 0  # as after a change of what is seen
    bank.tensors["images"][2] = 7.0
    bank.add(frame(3), 2, 5.0)
    assert held(bank) == {2, 3, 7}, "the older frame of class 0 goes"


def test_ages_grow_with_every_frame_and_are_shares_of_the_places() -> None:
    bank = MemoryBank(4, 2, SHAPE)
    bank.add(frame(1), 0, 0.0)
    bank.add(frame(2), 1, 0.0)
    assert [age for _, age in bank.frames()] == [2 / 4, 1 / 4]
