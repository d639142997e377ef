"""The backbone in PyTorch, for methods that train it: a backend through which gradients flow."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, fx, nn

from ocl_edge.bundle.reading import Bundle, load_backbone
from ocl_edge.errors import UsageError
from ocl_edge.method.methods import Method
from ocl_edge.network.batch_norms import BATCH_NORM
from ocl_edge.network.form_names import FormName
from ocl_edge.network.forms import build_form


class TrainableBackbone:
    """Runs the measured form of ``backbone.pt2``; what the method trains has gradients.

    Args:
        bundle: with the backbone.
        method: that trains all of it, or its norms' weight and bias.

    Attributes:
        parameters: that the method trains, named as in the network.

    Raises:
        UsageError: the method trains norms, and the backbone has none.
    """

    def __init__(self, bundle: Bundle, method: Method) -> None:
        plain = load_backbone(bundle)
        affine = affine_names(plain)
        self._spec = bundle.manifest.forms["measured"]
        self._network = build_form(plain, "measured", bundle.manifest.stat_rows)
        self.parameters: dict[str, nn.Parameter] = {
            f"backbone.{name}": parameter
            for name, parameter in self._network.named_parameters()
            if method.trains == "all" or name in affine
        }
        if not self.parameters:
            raise UsageError(
                f"{method.name} trains weight and bias of BatchNorm layers, and this backbone has none"
            )
        for name, parameter in self._network.named_parameters():
            parameter.requires_grad_(f"backbone.{name}" in self.parameters)

    def infer(self, form: FormName, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the measured form; the outputs carry gradients."""
        assert form == "measured"
        outputs = self._network(*(inputs[tensor.name] for tensor in self._spec.inputs))
        return {tensor.name: value for tensor, value in zip(self._spec.outputs, outputs, strict=True)}


def affine_names(backbone: fx.GraphModule) -> list[str]:
    """Weights and biases of the norms of a captured backbone, in the order of execution."""
    norms = (node for node in backbone.graph.nodes if node.target is BATCH_NORM)
    return [str(given.target) for norm in norms for given in norm.args[1:3] if given]
