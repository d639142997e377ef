"""Published families with random weights: exported, run on every backend, adapted. `make test-families`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ocl_edge.bundle.reading import Bundle
from ocl_edge.network.zoo import parse_spec
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions
from tests.doubles.images import random_image

pytestmark = pytest.mark.families
pytest.importorskip("torchvision", reason="make test-families installs it")

TORCHVISION = [
    f"torchvision:{name},num_classes=5"
    for name in (
        "lraspp_mobilenet_v3_large",
        "fcn_resnet50",
        "deeplabv3_mobilenet_v3_large",
        "deeplabv3_resnet50",
    )
]
SMP = [
    f"smp:{decoder},encoder_name={encoder},classes=5"
    for decoder, encoder in (
        ("Unet", "resnet18"),
        ("UnetPlusPlus", "resnet18"),
        ("MAnet", "resnet18"),
        ("Linknet", "resnet18"),
        ("FPN", "timm-regnetx_002"),
        ("PSPNet", "resnet18"),
        ("PAN", "resnet18"),
        ("DeepLabV3", "resnet18"),
        ("DeepLabV3Plus", "mobilenet_v2"),
        ("UPerNet", "resnet18"),
        ("Segformer", "mit_b0"),
        ("Unet", "efficientnet-b0"),
    )
]
HEIGHT, WIDTH = 64, 96


@pytest.mark.parametrize("arch", TORCHVISION + SMP)
def test_a_family_goes_in_and_gives_pytorchs_masks(arch: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = parse_spec(arch).build().eval()
    torch.save(network.state_dict(), tmp_path / "net.pth")
    request = ExportRequest(tmp_path / "net.pth", tmp_path / "out", arch=arch, input_size=(HEIGHT, WIDTH))
    bundle = export_bundle(request)
    image = random_image(0, HEIGHT, WIDTH)
    expected = mask_of(network, image, bundle)
    fit = [
        name for name in ("openvino", "onnxruntime", "torch") if name not in bundle.manifest.unfit_backends
    ]
    assert {"onnxruntime", "torch"} <= set(fit)
    for backend in fit:
        with open_session(bundle, SessionOptions(method="frozen", backend=backend, threads=1)) as session:
            assert (session.step(image).mask != expected).mean() <= 1e-3, backend
    with open_session(bundle, SessionOptions(method="ocl-head", threads=1)) as session:
        assert all(session.step(random_image(seed, HEIGHT, WIDTH)).adapted for seed in range(2))


@torch.no_grad()
def mask_of(network: torch.nn.Module, image: np.ndarray, bundle: Bundle) -> np.ndarray:
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in (bundle.manifest.input.mean, bundle.manifest.input.std)
    )
    output = network((torch.from_numpy(image).permute(2, 0, 1)[None] / 255 - mean) / std)
    logits = output["out"] if isinstance(output, dict) else output
    return logits.argmax(1)[0].numpy()
