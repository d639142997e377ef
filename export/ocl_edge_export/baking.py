"""A network with the weights of a checkpoint or a bundle, in which some tensors were changed."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ocl_edge import durable
from ocl_edge.bundle.manifest import file_sha256
from ocl_edge.bundle.manifest_parts import OutputSpec
from ocl_edge.bundle.reading import Bundle, load_backbone, load_head, load_tail
from ocl_edge.errors import CheckpointError, UsageError
from ocl_edge.masks import Mask, mask_dtype
from ocl_edge_export.checkpoint import Checkpoint, LoadedNetwork, load_network, read_checkpoint
from ocl_edge_export.class_scores import binary_scores
from ocl_edge_export.outputs import SegmentationOutput

NAMED_AT_MOST = 5


@dataclass(frozen=True)
class OriginalNetwork:
    """What names the network that a bundle was exported from, and holds what the bundle does not.

    Attributes:
        arch: as for an export; None: recognised.
        checkpoint: the file that was exported; None: the bundle's tensors are all there is.
        weights_key: where in it the weights are.
        trust_pickle: see `read_checkpoint`.
    """

    arch: str | None = None
    checkpoint: Path | None = None
    weights_key: str | None = None
    trust_pickle: bool = False


def rebuild_network(bundle: Bundle, original: OriginalNetwork) -> LoadedNetwork:
    """The network of a bundle, with its trained weights; every tensor of the bundle is found in it.

    The bundle's programs keep the names that the tensors have in the network. Parts that its output
    does not depend on (training heads) come from the checkpoint.

    Raises:
        UsageError: ``arch`` is wrong.
        CheckpointError: the network is not recognised, its checkpoint is another one, or a tensor of the
            bundle is none of the network's.
    """
    held = _tensors_of(bundle)
    checkpoint = Checkpoint(held) if original.checkpoint is None else _same_checkpoint(bundle, original)
    try:
        loaded = load_network(checkpoint, original.arch)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}\nThe bundle was exported from {bundle.manifest.checkpoint} as "
            f"{bundle.manifest.architecture}: name that with --arch, and the file with --checkpoint where "
            "the network has parts that its output does not need"
        ) from error
    own = loaded.network.state_dict()
    differing = [n for n, tensor in held.items() if n in own and not torch.equal(own[n], tensor)]
    if differing:
        raise CheckpointError(
            f"the network has other values than the bundle in {', '.join(differing[:NAMED_AT_MOST])}: is "
            "it another average of the weights (--weights-key), or another network?"
        )
    return loaded


@torch.no_grad()
def change_tensors(network: nn.Module, changed: Mapping[str, Tensor]) -> None:
    """Give tensors of a network other values.

    Raises:
        CheckpointError: the network has none of that name and shape in its state dict.
    """
    own = network.state_dict()
    foreign = [n for n, t in changed.items() if n not in own or own[n].shape != t.shape]
    if foreign:
        raise CheckpointError(
            f"the network keeps no {', '.join(foreign[:NAMED_AT_MOST])} in its state dict, and these were "
            "learned; norms of another kind than BatchNorm: --norms trained bakes the head alone"
        )
    for name, value in changed.items():
        own[name].copy_(value)


def masks_of(network: nn.Module, output: OutputSpec, images: Tensor) -> list[Mask]:
    """Class maps [h, w] of a network in evaluation mode, at its own output's size.

    Args:
        network: it.
        output: that the bundle gives.
        images: float32 [N, C, H, W], normalised.
    """
    segmentation = SegmentationOutput(network, output.name)
    with torch.no_grad():
        found = torch.cat([segmentation(image[None])[0] for image in images])
    if found.shape[1] == 1:
        found = binary_scores(found, output.values, 0.5 if output.threshold is None else output.threshold)
    return list(found.argmax(1).numpy().astype(mask_dtype(found.shape[1])))


def write_checkpoint(network: nn.Module, path: Path, force: bool) -> None:
    """Write a network's state dict: tensors and nothing else, so that ``weights_only=True`` loads it.

    Raises:
        UsageError: the file exists and ``force`` is not set.
        OutputError: it cannot be written; what was there stays.
    """
    if path.exists() and not force:
        raise UsageError(f"{path} exists; choose another --out, or replace it with --force")
    content = io.BytesIO()
    torch.save({name: tensor.detach().clone() for name, tensor in network.state_dict().items()}, content)
    durable.write_bytes(path, content.getvalue())


def _tensors_of(bundle: Bundle) -> dict[str, Tensor]:
    """Every tensor of the programs by its name in the network."""
    programs = [load_backbone(bundle), load_head(bundle), load_tail(bundle).module]
    found: dict[str, Tensor] = {}
    for program in programs:
        if program is not None:
            found |= {name: tensor.detach() for name, tensor in program.state_dict().items()}
    return found


def _same_checkpoint(bundle: Bundle, original: OriginalNetwork) -> Checkpoint:
    assert original.checkpoint is not None
    checkpoint = read_checkpoint(original.checkpoint, original.trust_pickle, original.weights_key)
    if file_sha256(original.checkpoint) != bundle.manifest.checkpoint_sha256:
        raise CheckpointError(
            f"{original.checkpoint} is not the checkpoint of this bundle, which was exported from another "
            f"{bundle.manifest.checkpoint} (its sha256 begins with {bundle.manifest.checkpoint_sha256[:12]})"
        )
    return checkpoint
