"""Bundles of the small network."""

from __future__ import annotations

from pathlib import Path

from ocl_edge.bundle.reading import Bundle
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from tests.doubles import small_network

SMALL_ARCH = f"{Path(small_network.__file__)}:build"


def export_small(out: Path, checkpoint: Path, **options: object) -> Bundle:
    size = (small_network.HEIGHT, small_network.WIDTH)
    request = ExportRequest(checkpoint, out, arch=SMALL_ARCH, input_size=size, **options)  # type: ignore[arg-type]
    return export_bundle(request)
