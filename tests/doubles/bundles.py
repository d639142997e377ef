"""Bundles of the small network."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from packaging.version import Version

from ocl_edge.bundle.reading import Bundle
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from tests.doubles import small_network

OLD = Path(__file__).with_name("bundle_of_schema_3.zip")
"""The small network, exported at commit e228d51 with PyTorch 2.13."""

SMALL_ARCH = f"{Path(small_network.__file__)}:build"


def export_small(out: Path, checkpoint: Path, **options: object) -> Bundle:
    size = (small_network.HEIGHT, small_network.WIDTH)
    request = ExportRequest(checkpoint, out, arch=SMALL_ARCH, input_size=size, **options)  # type: ignore[arg-type]
    return export_bundle(request)


def unpack_old(directory: Path) -> Path:
    """A bundle of schema 3, as ``old-bundle``; its archives open in PyTorch 2.13 and newer ones."""
    if Version(torch.__version__).release[:2] < (2, 13):
        pytest.skip(f"PyTorch {torch.__version__} opens no archive of 2.13")
    with zipfile.ZipFile(OLD) as archive:
        archive.extractall(directory / "unpacked")
    (directory / "unpacked" / "bundle").rename(directory / "old-bundle")
    (directory / "unpacked").rmdir()
    return directory / "old-bundle"
