"""The head step as a graph against PyTorch's autograd and optimiser in float64."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from ocl_edge.bundle.reading import Bundle, load_head
from ocl_edge.errors import SplitError
from ocl_edge.method.ocl import output_contrastive_loss
from ocl_edge_export.engines.process import run_worker
from ocl_edge_export.head_step import ConvolutionHead, build_head_step, describe_head

HEIGHT, WIDTH, STEPS = 12, 18, 200
SIDES = {"min": (1, 1), "opt": (HEIGHT // 4, WIDTH // 4), "max": (HEIGHT, WIDTH)}
LR, MOMENTUM, DECAY, RESTORATION = 0.2, 0.9, 5e-4, 0.05
ONE_BY_ONE = ConvolutionHead(20, 10, (1, 1))
HEADS = [
    ONE_BY_ONE,
    ConvolutionHead(5, 6, (3, 3), padding=(1, 1)),
    ConvolutionHead(4, 6, (3, 3), padding=(2, 2), dilation=(2, 2), bias=False),
    ConvolutionHead(4, 3, (1, 3), padding=(0, 1)),
    ConvolutionHead(4, 6, (3, 3)),
]


def as_module(head: ConvolutionHead) -> nn.Conv2d:
    return nn.Conv2d(
        head.features,
        head.classes,
        head.kernel,
        padding=head.padding,
        dilation=head.dilation,
        bias=head.bias,
        dtype=torch.float64,
    )


def rounded(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy().astype(np.float32) for name, p in module.named_parameters()}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Steps this small take longer to divide than to do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("head", HEADS, ids=lambda head: f"{head.kernel}{head.padding}{head.dilation}")
def test_two_hundred_chained_steps_equal_autograd_in_float64(head: ConvolutionHead) -> None:
    torch.manual_seed(0)
    module = as_module(head)
    optimizer = torch.optim.SGD(module.parameters(), LR, MOMENTUM, weight_decay=DECAY)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    graph = build_head_step(head, HEIGHT, WIDTH).SerializeToString()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    source = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    state = rounded(module)
    feeds = {f"{name}_source": value for name, value in rounded(module).items()}
    feeds |= {f"{name}_momentum": np.zeros_like(value) for name, value in state.items()}
    feeds |= {"lr": LR, "momentum": MOMENTUM, "weight_decay": DECAY}
    feeds = {name: np.atleast_1d(np.asarray(value, np.float32)) for name, value in feeds.items()}
    names = [output.name for output in session.get_outputs()]
    for step in range(STEPS):
        features = torch.randn(2, head.features, HEIGHT, WIDTH)
        masks = {name: torch.rand(p.shape) < RESTORATION for name, p in module.named_parameters()}
        logits = module(features.double())
        loss = output_contrastive_loss(logits[:1], logits[1:].flip(3))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(torch.where(masks[name], source[name], parameter))
        restored = {f"{name}_restored": mask.numpy().astype(np.float32) for name, mask in masks.items()}
        values = session.run(names, {"features": features.numpy(), **state, **restored, **feeds})
        outputs = dict(zip(names, values, strict=True))
        assert outputs["loss"][0] == pytest.approx(loss.item(), abs=2e-6), step
        state = {name: outputs[f"new_{name}"] for name in head.parameters}
        feeds |= {f"{name}_momentum": outputs[f"new_{name}_momentum"] for name in head.parameters}
    moved = max(float((p.detach() - source[name]).abs().max()) for name, p in module.named_parameters())
    assert moved > 0.02
    for name, parameter in module.named_parameters():
        assert np.abs(state[name] - parameter.detach().numpy()).max() < 2e-5 * max(moved, 1)


def test_the_head_of_a_bundle_is_recognised(small_bundle: Bundle) -> None:
    head = describe_head(load_head(small_bundle))
    assert head == ConvolutionHead(5, 6, (1, 1))


class Transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 4, 1, 1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        ones, zeros = [1, 1], [0, 0]
        return torch.ops.aten.convolution(features, self.weight, None, ones, zeros, ones, True, zeros, 1)


def test_another_head_is_refused() -> None:
    program = torch.export.export(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), (torch.zeros(1, 3, 4, 4),))
    with pytest.raises(SplitError, match=r"this one is: aten\.conv2d\.default, aten\.relu\.default"):
        describe_head(program.module())
    transposed = torch.export.export(Transposed(), (torch.zeros(1, 4, 4, 4),)).module()
    with pytest.raises(SplitError, match=r"1 groups, and is transposed"):
        describe_head(transposed)
    program = torch.export.export(nn.Conv2d(4, 4, 1, groups=2), (torch.zeros(1, 4, 4, 4),))
    with pytest.raises(SplitError, match=r"this one has stride \(1, 1\) and 2 groups"):
        describe_head(program.module())


@pytest.mark.parametrize("head", HEADS[:2], ids=["1x1", "3x3"])
def test_tensorrt_rtx_compiles_it(head: ConvolutionHead, tmp_path: Path) -> None:
    onnx = tmp_path / "head_step.onnx"
    onnx.write_bytes(build_head_step(head, HEIGHT, WIDTH).SerializeToString())
    job = {"job": "build", "flavour": "tensorrt-rtx", "onnx": str(onnx), "engine": str(tmp_path / "engine")}
    free = {which: [2, head.features, *sides] for which, sides in SIDES.items()}
    shapes = {"features": free} if head.pointwise else {}
    fixed = {"shapes": shapes, "targets": ["sm86", "sm89"], "workspace_mib": None, "tf32": False}
    done = run_worker({**job, **fixed}, 120)
    assert (tmp_path / "engine").stat().st_size == done["bytes"] > 1000
