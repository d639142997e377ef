"""The norms of a captured backbone: its BatchNorms, what training left in them, and which stay as trained."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Tensor, fx, nn

FEWEST_SAMPLED_ROWS = 12

BATCH_NORM = torch.ops.aten.batch_norm.default

STAYS = "stays as trained"
"""In the ``meta`` of the node of a BatchNorm that is no norm: every form has it as ``plain`` has it."""


@dataclass(frozen=True)
class Norm:
    """One BatchNorm layer of the backbone.

    Attributes:
        name: qualified module name, for example ``layer1.0.bn1``.
        channels: length of its slice of the packed vectors.
        eps: added to the variance.
        rows: height of its input (1 for pooled or flat inputs).
        columns: width of its input.
    """

    name: str
    channels: int
    eps: float
    rows: int
    columns: int

    @property
    def pinned(self) -> bool:
        """True if its input has one position an image, which has no variance of its own.

        Such a norm keeps the anchor statistics in every form.
        """
        return self.rows * self.columns == 1

    def row_stride(self, stat_rows: int) -> int:
        """Distance of the rows that statistics are taken from.

        ``stat_rows`` where the input is tall enough; never so large that fewer than
        `FEWEST_SAMPLED_ROWS` rows remain.
        """
        return max(1, min(stat_rows, self.rows // FEWEST_SAMPLED_ROWS))

    def sampled_positions(self, stat_rows: int) -> int:
        """Positions per image in the sampled rows."""
        stride = self.row_stride(stat_rows)
        return len(range(stride // 2, self.rows, stride)) * self.columns


def list_norms(backbone: fx.GraphModule) -> list[Norm]:
    """The norms of a captured backbone in the order of execution.

    Layers without running statistics use the current image's own in every form already
    and are not listed, nor are those that stay as trained (`keep_as_norms`).
    """
    return [describe(backbone, node) for node in norm_nodes(backbone)]


def trained_tensors(backbone: fx.GraphModule, nodes: Sequence[fx.Node] | None = None) -> dict[str, Tensor]:
    """``mean``, ``var``, ``weight``, ``bias``, ``eps`` of every norm, packed float32 [sum of channels].

    Args:
        backbone: captured.
        nodes: of the BatchNorms that are asked for; None: its norms.
    """
    packed: dict[str, list[Tensor]] = {"mean": [], "var": [], "weight": [], "bias": [], "eps": []}
    for node in norm_nodes(backbone) if nodes is None else nodes:
        weight, bias, mean, var = (_attribute(backbone, argument) for argument in node.args[1:5])
        assert mean is not None
        assert var is not None
        packed["mean"].append(mean)
        packed["var"].append(var)
        packed["weight"].append(torch.ones_like(mean) if weight is None else weight)
        packed["bias"].append(torch.zeros_like(mean) if bias is None else bias)
        packed["eps"].append(torch.full_like(mean, float(node.args[7])))  # type: ignore[arg-type]
    if not packed["mean"]:
        return {name: torch.zeros(0) for name in packed}
    return {name: torch.cat([t.detach().float() for t in parts]) for name, parts in packed.items()}


def norm_nodes(module: fx.GraphModule) -> list[fx.Node]:
    """The norms of a captured network, in the order of execution."""
    return [node for node in batch_norms(module) if STAYS not in node.meta]


def batch_norms(module: fx.GraphModule) -> list[fx.Node]:
    """Where a captured network normalises with running statistics, in the order of execution."""
    # args: input, weight, bias, running_mean, running_var, training, momentum, eps, cudnn
    return [
        n for n in module.graph.nodes if n.target is BATCH_NORM and n.args[3] is not None and not n.args[5]
    ]


def keep_as_norms(backbone: fx.GraphModule, names: Collection[str]) -> None:
    """Let every BatchNorm of another name stay as trained: no form treats it, engines fold it.

    Args:
        backbone: captured; its nodes are marked, and copies of them are, too.
        names: as `Norm` has them.
    """
    for node in batch_norms(backbone):
        if name_of_norm(node) not in names:
            node.meta[STAYS] = True


def some_stay(backbone: fx.GraphModule) -> bool:
    """Whether there are BatchNorms that are no norms, see `keep_as_norms`."""
    return len(norm_nodes(backbone)) < len(batch_norms(backbone))


def name_of_norm(node: fx.Node) -> str:
    """Qualified name of the module of a BatchNorm."""
    mean = node.args[3]
    assert isinstance(mean, fx.Node)
    return str(mean.target).removesuffix(".running_mean")


def describe(module: fx.GraphModule, node: fx.Node) -> Norm:
    mean_node = node.args[3]
    assert isinstance(mean_node, fx.Node)
    mean = _attribute(module, mean_node)
    assert mean is not None
    shape = node.meta["val"].shape
    rows, columns = (int(shape[2]), int(shape[3])) if len(shape) == 4 else (1, 1)
    return Norm(name_of_norm(node), mean.numel(), float(node.args[7]), rows, columns)  # type: ignore[arg-type]


def _attribute(module: nn.Module, node: object) -> Tensor | None:
    if node is None:
        return None
    assert isinstance(node, fx.Node)
    value = attrgetter(str(node.target))(module)
    assert isinstance(value, Tensor)
    return value
