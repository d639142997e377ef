from __future__ import annotations

import pytest
from torch import nn

from ocl_edge.errors import UsageError
from ocl_edge_export.network_input import describe_input

SIZE = (48, 64)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OF_BYTES = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def convolutions(*taken: int) -> nn.Module:
    return nn.ModuleList(nn.Conv2d(channels, 8, 1) for channels in taken)


@pytest.mark.parametrize(
    ("taken", "channels", "colours"),
    [((3, 8), 3, "rgb"), ((1, 3), 1, "grey"), ((64, 3), 3, "rgb"), ((), 3, "rgb")],
)
def test_channels_are_those_of_the_first_layer_that_can_see_an_image(
    taken: tuple[int, ...], channels: int, colours: str
) -> None:
    spec = describe_input(convolutions(*taken), SIZE, None, None, None, "stretch", 1)
    assert (spec.channels, spec.colours) == (channels, colours)


def test_other_channels_need_their_numbers() -> None:
    with pytest.raises(UsageError, match="takes 4 channels: give --mean and --std, 4 numbers each"):
        describe_input(convolutions(4), SIZE, None, None, None, "stretch", 1)
    spec = describe_input(convolutions(4), SIZE, (0.5,) * 4, (0.25,) * 4, None, "stretch", 1)
    assert (spec.channels, spec.colours) == (4, "any")
    with pytest.raises(UsageError, match="bgr has 3 channels, mean and std have 4"):
        describe_input(convolutions(4), SIZE, (0.5,) * 4, (0.25,) * 4, "bgr", "stretch", 1)


def test_what_mmseg_and_caffe_do_can_be_said() -> None:
    spec = describe_input(convolutions(3), SIZE, *OF_BYTES, None, "stretch", 255)
    assert (spec.scale, spec.colours, spec.mean) == (255, "rgb", OF_BYTES[0])
    caffe = (104.00698793, 116.66876762, 122.67891434)
    spec = describe_input(convolutions(3), SIZE, caffe, (1.0, 1.0, 1.0), "bgr", "letterbox", 255)
    assert (spec.scale, spec.colours, spec.mean, spec.resize) == (255, "bgr", caffe, "letterbox")
    describe_input(convolutions(3), SIZE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), None, "stretch", 255)


@pytest.mark.parametrize(
    ("mean", "std", "scale", "said"),
    [
        (*OF_BYTES, 1, "is that of pixels of 0 to 255: say so with --scale 255"),
        (*IMAGENET, 255, "is that of pixels of 0 to 1: leave out --scale 255"),
        (None, None, 255, "--scale 255 needs the --mean and --std"),
        (OF_BYTES[0], None, 255, "--scale 255 needs the --mean and --std"),
    ],
)
def test_numbers_of_another_scale_are_refused(
    mean: tuple[float, ...] | None, std: tuple[float, ...] | None, scale: int, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        describe_input(convolutions(3), SIZE, mean, std, None, "stretch", scale)
