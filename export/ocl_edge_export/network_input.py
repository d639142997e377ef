"""What a network takes: size, channels, their order, scale, mean and deviation."""

from __future__ import annotations

from pydantic import ValidationError
from torch import nn

from ocl_edge.errors import UsageError
from ocl_edge.network.preprocess import InputSpec
from ocl_edge.plain_text import first_problem
from ocl_edge_export.onnx_network.network import OnnxNetwork

USUAL_MEAN = {3: (0.485, 0.456, 0.406), 1: (0.449,)}
USUAL_STD = {3: (0.229, 0.224, 0.225), 1: (0.226,)}
"""ImageNet's; of one channel their mean."""
USUAL_COLOURS = {3: "rgb", 1: "grey"}

USUAL_CHANNELS = 3
MOST_OF_PIXELS = 4

Numbers = tuple[float, ...]


def describe_input(
    network: nn.Module,
    size: tuple[int, int] | None,
    mean: Numbers | None,
    std: Numbers | None,
    colour: str | None,
    resize: str,
    scale: int,
) -> InputSpec:
    """The network's input; what is None is the usual for its number of channels.

    Args:
        network: its first convolution says how many channels there are, where no mean does.
        size: height and width in pixels.
        mean: of each channel, in the network's order and scale.
        std: likewise.
        colour: ``rgb``, ``bgr`` or ``grey``.
        resize: ``stretch`` or ``letterbox``, as the network was trained.
        scale: what a white pixel is before mean and deviation, 1 or 255.

    Raises:
        UsageError: something is not known, or contradicts something else.
    """
    if size is None:
        raise UsageError(
            "the input size is not known: --input-size HEIGHTxWIDTH, for example --input-size 512x1024"
        )
    channels = len(mean) if mean else _channels_of(network)
    if scale == 255 and (mean is None or std is None):
        raise UsageError("--scale 255 needs the --mean and --std of such pixels, for example 0,0,0 and 1,1,1")
    if mean is not None:
        _refuse_another_scale(mean, scale)
    mean, std = mean or USUAL_MEAN.get(channels), std or USUAL_STD.get(channels)
    if mean is None or std is None:
        raise UsageError(
            f"the network takes {channels} channels: give --mean and --std, {channels} numbers each"
        )
    colours = colour or USUAL_COLOURS.get(channels, "any")
    fields = {"height": size[0], "width": size[1], "colours": colours, "resize": resize, "scale": scale}
    try:
        return InputSpec.model_validate({**fields, "mean": mean, "std": std})
    except ValidationError as error:
        raise UsageError(f"the network's input cannot be this: {first_problem(error)}") from error


def _refuse_another_scale(mean: Numbers, scale: int) -> None:
    """Pixels of 0 to 1 with the mean of those of 0 to 255, or the other way round, give wrong masks."""
    largest = max(mean)
    shown = ",".join(f"{value:g}" for value in mean)
    if scale == 1 and largest > 1:
        raise UsageError(
            f"--mean {shown} is that of pixels of 0 to 255: say so with --scale 255, or divide --mean and "
            "--std by 255"
        )
    if scale == 255 and 0 < largest <= 1:
        raise UsageError(
            f"--mean {shown} is that of pixels of 0 to 1: leave out --scale 255, or multiply --mean and "
            "--std by 255"
        )


def _channels_of(network: nn.Module) -> int:
    """What the first convolution takes, in the order in which the network was built.

    That need not be the order of its layers: where the first one takes more than pixels have, and another
    takes 3, this is the image.
    """
    if isinstance(network, OnnxNetwork):
        return network.channels
    taken = [module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d)]
    if not taken or (taken[0] > MOST_OF_PIXELS and USUAL_CHANNELS in taken):
        return USUAL_CHANNELS
    return taken[0]
