"""Why a compiled engine is valid: what it was built from, with, and for.

Every engine file has a record beside it (``FORM.json``) with its key. A key is compared
field by field with this device before the engine is loaded, so that the reason is known
in words before any library gets to see the file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from ocl_edge.bundle.manifest_parts import Sha256
from ocl_edge.bundle.reading import Bundle
from ocl_edge.network.form_names import HEAD_GRAPHS, WEIGHT_FILE, GraphName
from ocl_edge.tensorrt.driver import CudaDriver
from ocl_edge.tensorrt.flavours import FlavourName
from ocl_edge.tensorrt.plan import Plan

Precision = Literal["fp32", "fp16", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

# Fields that belong to one form; all forms of a directory share the others.
OF_THE_FORM = {"form", "onnx_sha256", "weights_sha256"}


class EngineKey(BaseModel):
    """Everything that an engine depends on.

    Attributes:
        form: form of the backbone, or a head graph.
        onnx_sha256: of the bundle's ONNX file, before any conversion to ``precision``.
        weights_sha256: of the bundle's shared weight file; empty for a head graph.
        flavour: which TensorRT.
        version: its full version.
        compute_capabilities: GPUs that it runs on, ``smXY``.
        gpu: name of the GPU that tuned it; None where only the capability matters.
        cuda: CUDA major version of the driver that tuned it; None likewise.
        driver: driver's major version; None likewise.
        precision: of the graph; inputs, outputs, norm vectors and statistics are float32 in all.
        height: of the input, pixels.
        width: of the input, pixels.
        min_batch: smallest batch that it takes.
        opt_batch: batch that it is tuned for.
        max_batch: largest batch that it takes.
        flags: other choices of the build, for example ``tf32``.
        calibration_sha256: of the calibration images (int8).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    form: GraphName
    onnx_sha256: str
    weights_sha256: str
    flavour: FlavourName
    version: str
    compute_capabilities: tuple[str, ...]
    gpu: str | None = None
    cuda: str | None = None
    driver: str | None = None
    precision: Precision
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    min_batch: int = Field(ge=1)
    opt_batch: int = Field(ge=1)
    max_batch: int = Field(ge=1)
    flags: tuple[str, ...] = ()
    calibration_sha256: str | None = None

    @property
    def directory(self) -> str:
        """Name of the directory that holds this engine: readable, and unique by its last part."""
        shared = self.model_dump_json(exclude=OF_THE_FORM)
        targets = "+".join(self.compute_capabilities)
        digest = hashlib.sha256(shared.encode()).hexdigest()[:10]
        return f"{self.flavour}-{self.version}-{targets}-{self.precision}-{digest}"


class EngineRecord(BaseModel):
    """What ``FORM.json`` holds: the key, the engine file's hash, and how the build went.

    ``plan`` is that of a form of the backbone; None where the library's log does not tell its kernels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    key: EngineKey
    sha256: Sha256
    bytes: int = Field(ge=0)
    build_s: float
    built_at: str
    created_with: dict[str, str]
    parity: dict[str, Any] | None = None
    plan: Plan | None = None


@dataclass(frozen=True)
class Here:
    """The device and library that would run an engine."""

    flavour: FlavourName
    version: str
    gpu: str
    compute_capability: str
    cuda: str
    driver: str | None

    @classmethod
    def of(cls, flavour: FlavourName, version: str, driver: CudaDriver, gpu: int = 0) -> Here:
        device = driver.gpus[gpu]
        return cls(
            flavour,
            version,
            device.name,
            device.compute_capability,
            major(driver.cuda),
            major(driver.driver) if driver.driver else None,
        )


def major(version: str) -> str:
    return version.partition(".")[0]


def graph_hashes(bundle: Bundle, form: GraphName) -> tuple[str, str]:
    """sha256 of a graph's ONNX file and of the weight file, as the manifest has them.

    Raises:
        BundleError: the bundle has no head graphs, and one is asked for.
    """
    if form in HEAD_GRAPHS:
        bundle.require_head_graphs()
    files = bundle.manifest.files
    weights = None if form in HEAD_GRAPHS else files.get(WEIGHT_FILE)
    return files[bundle.manifest.graphs[form].file].sha256, weights.sha256 if weights else ""


def precision_of(form: GraphName, asked: Precision) -> Precision:
    """The precision that a graph is compiled in: head graphs hold what is learned and stay float32."""
    return "fp32" if form in HEAD_GRAPHS else asked


def reasons_against(
    key: EngineKey, bundle: Bundle, form: GraphName, here: Here, precision: Precision | None = None
) -> list[str]:
    """Why an engine cannot be used for a form of a bundle on this device; empty: it can.

    Args:
        key: of the engine.
        bundle: the bundle to run.
        form: the graph to run.
        here: this device.
        precision: the wanted one, None: any.
    """
    onnx, weights = graph_hashes(bundle, form)
    frame = bundle.manifest.input
    checks: list[tuple[str, object, object]] = [
        ("form", key.form, form),
        ("TensorRT flavour", key.flavour, here.flavour),
        (f"{here.flavour} version", key.version, here.version),
        ("ONNX sha256", key.onnx_sha256[:12], onnx[:12]),
        ("weights sha256", key.weights_sha256[:12], weights[:12]),
        ("input size", f"{key.height}x{key.width}", f"{frame.height}x{frame.width}"),
        ("GPU", key.gpu, here.gpu if key.gpu is not None else None),
        ("CUDA", key.cuda, here.cuda if key.cuda is not None else None),
        ("driver", key.driver, here.driver if key.driver is not None else None),
        ("precision", key.precision, precision_of(form, precision or key.precision)),
    ]
    reasons = [f"{field}: built for {built}, here {now}" for field, built, now in checks if built != now]
    if here.compute_capability not in key.compute_capabilities:
        built = ", ".join(key.compute_capabilities)
        reasons.append(f"compute capability: built for {built}, here {here.compute_capability}")
    return reasons
