"""The families: what stands after ``--arch``, by library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

OWN = "tests/families/own_networks.py"

TORCHVISION = [
    f"torchvision:{name},num_classes=5"
    for name in (
        "lraspp_mobilenet_v3_large",
        "deeplabv3_mobilenet_v3_large",
        "fcn_resnet50",
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
        ("DPT", "tu-vit_tiny_patch16_224"),
        ("Unet", "efficientnet-b0"),
        ("FPN", "tu-convnext_atto"),
    )
]
TIMM = ["timm:resnet18,classes=5", f"timm:mobilenetv3_small_050,classes=5,head={OWN}:two_features"]
OWN_CODE = [f"{OWN}:dinov2_linear", f"{OWN}:dinov3_linear"]

BACKBONE = {
    "model_type": "resnet",
    "embedding_size": 16,
    "hidden_sizes": [16, 24, 32, 48],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "segformer": {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1], "decoder_hidden_size": 48},
    "mobilenet_v2": {"depth_multiplier": 0.5},
    "mobilevitv2": {"width_multiplier": 0.5},
    "upernet": {"backbone_config": BACKBONE, "hidden_size": 32, "pool_scales": [1, 2, 3, 6]},
    "dpt": {
        "hidden_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "intermediate_size": 96,
        "image_size": 224,
        "backbone_out_indices": [0, 1, 2, 3],
        "neck_hidden_sizes": [16, 24, 32, 48],
        "fusion_hidden_size": 32,
    },
}
"""Kinds of transformers' configurations, small ones."""

LABELS = {str(index): f"class_{index}" for index in range(5)}


def write_config(kind: str, directory: Path) -> str:
    """A directory as ``save_pretrained`` leaves it, without weights; returns what stands after ``--arch``."""
    directory.mkdir(parents=True, exist_ok=True)
    labels = {"id2label": LABELS, "label2id": {name: int(index) for index, name in LABELS.items()}}
    config = {"model_type": kind, **TRANSFORMERS[kind], **labels}
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return f"transformers:{directory}"


def size_of(spec: str) -> tuple[int, int]:
    """Height and width of the images; a DPT has those that it was made for."""
    return (224, 224) if "dpt" in spec.lower() else (128, 192)
