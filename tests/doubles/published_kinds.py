"""Networks after published ones, and how a bundle does beside its network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ocl_edge.bundle.reading import Bundle
from ocl_edge_export.outputs import named_tensors
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions
from tests.doubles.images import random_image

BRANCHES, DECODERS = "tests/doubles/two_branches.py", "tests/doubles/encoder_decoders.py"
PUBLISHED_KINDS = [
    *(f"{BRANCHES}:{name}" for name in ("pidnet", "ddrnet", "bisenetv2", "fast_scnn")),
    *(f"{DECODERS}:{name}" for name in ("enet", "segnext")),
]
OUTPUTS = {f"{BRANCHES}:pidnet": "1"}
"""Where the usual output is not the one that counts."""

BACKENDS = ("openvino", "onnxruntime", "torch")
FRAMES = 4


def differs(network: torch.nn.Module, bundle: Bundle, backend: str) -> float:
    """Share of the pixels whose class is not that of the network itself."""
    image = random_image(0, bundle.manifest.input.height, bundle.manifest.input.width)
    expected = _mask_of(network, image, bundle)
    with open_session(bundle, SessionOptions(method="frozen", backend=backend, threads=1)) as session:
        return float((session.step(image).mask != expected).mean())


def learned(bundle: Bundle, backend: str, frames: int = FRAMES) -> int:
    """Of some frames as published, how many the head learns from."""
    size = (bundle.manifest.input.height, bundle.manifest.input.width)
    options = SessionOptions(method="ocl-head", backend=backend, threads=1, opening=1.0)
    with open_session(bundle, options) as session:
        return sum(session.step(random_image(seed, *size)).verdict.applied for seed in range(frames))


@torch.no_grad()
def with_norms_of(network: torch.nn.Module, size: tuple[int, int]) -> torch.nn.Module:
    """The network with the statistics of pictures: with those of new norms it computes nearly zeros."""
    norms = [m for m in network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the mean over all batches
        norm.train()
    network(
        torch.stack([torch.from_numpy(random_image(100 + i, *size)) for i in range(4)]).permute(0, 3, 1, 2)
        / 127.5
        - 1
    )
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval()


@torch.no_grad()
def _mask_of(network: torch.nn.Module, image: np.ndarray[Any, Any], bundle: Bundle) -> np.ndarray[Any, Any]:
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in (bundle.manifest.input.mean, bundle.manifest.input.std)
    )
    output = network((torch.from_numpy(image).permute(2, 0, 1)[None] / 255 - mean) / std)
    logits = named_tensors(output)[bundle.manifest.output.name]
    if logits.shape[2:] != image.shape[:2]:
        logits = torch.nn.functional.interpolate(
            logits, image.shape[:2], mode="bilinear", align_corners=False
        )
    return logits.argmax(1)[0].numpy()
