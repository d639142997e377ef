"""The whole network of a bundle in PyTorch, for methods as their papers have them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ocl_edge.bundle.reading import Bundle, load_backbone, load_head, load_norms
from ocl_edge.errors import UsageError
from ocl_edge.method.head import only_output
from ocl_edge.method.published.published import Pass, Weights
from ocl_edge.network.batch_norms import some_stay
from ocl_edge.network.forms import build_form
from ocl_edge_runtime.session.trainable_backbone import affine_names

ALL_ROWS = 1
Outputs = tuple[Tensor, ...]


class WholeNetwork:
    """See `ocl_edge.method.published.published.Network`. Statistics come from all rows, as in the papers.

    Args:
        bundle: with the network.
        wanted_by: name of the method, for errors.

    Raises:
        UsageError: there are no norms that follow a frame, or not all do, or the head has inputs of several
            sizes.
    """

    def __init__(self, bundle: Bundle, wanted_by: str) -> None:
        manifest, plain = bundle.manifest, load_backbone(bundle)
        sizes = {tuple(shape[1:]) for shape in manifest.head_features}
        if not manifest.norms or len(sizes) > 1:
            raise UsageError(
                f"{wanted_by} works on BatchNorm layers, and on a head whose inputs have one size; this "
                f"network has {len(manifest.norms)} such layers, and the sizes of its head's inputs are "
                f"{', '.join(map(str, sorted(sizes)))}"
            )
        if some_stay(plain):
            raise UsageError(
                f"{wanted_by} moves every BatchNorm; in this bundle, exported with --norms alternate, every "
                "second one stays as trained: export the checkpoint again without it"
            )
        self._backbone: nn.Module = build_form(plain, "measured", ALL_ROWS)
        self._head: nn.Module = load_head(bundle)
        parts = {"backbone": self._backbone, "head": self._head}
        self.parameters = {f"{part}.{n}": p for part, m in parts.items() for n, p in m.named_parameters()}
        self.affine = tuple(f"backbone.{name}" for name in affine_names(plain))
        self.channels = tuple(norm.channels for norm in manifest.norms)
        self.trained = load_norms(bundle).statistics
        self.image = (manifest.input.channels, manifest.input.height, manifest.input.width)
        self.features = sum(shape[0] for shape in manifest.head_features)
        self._read = manifest.read_by_head
        self.classes = manifest.logits[0]

    def run(
        self, views: Tensor, weight: Tensor, anchor: Tensor | None = None, weights: Weights | None = None
    ) -> Pass:
        """See `Network.run`."""
        anchor = self.trained if anchor is None else anchor
        *given, statistics = _called(self._backbone, "backbone", (views, anchor, weight), weights)
        features = [given[index] for index in self._read]
        logits = only_output(_called(self._head, "head", tuple(features), weights))
        return Pass(logits, torch.cat(features, 1), statistics.detach())


def _called(module: nn.Module, part: str, inputs: tuple[Tensor, ...], weights: Weights | None) -> Outputs:
    """What a part of the network gives, with other weights where there are."""
    prefix = f"{part}."
    own = {n.removeprefix(prefix): w for n, w in (weights or {}).items() if n.startswith(prefix)}
    outputs: Outputs = torch.func.functional_call(module, own, inputs)
    return outputs
