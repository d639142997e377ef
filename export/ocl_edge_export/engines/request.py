"""What the user asks of an engine build."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ocl_edge.errors import UsageError
from ocl_edge.network.form_names import FORMS, GraphName
from ocl_edge.tensorrt.flavours import FlavourName
from ocl_edge.tensorrt.key import Precision


@dataclass(frozen=True)
class BuildRequest:
    """What the user asks of a build.

    Attributes:
        flavour: which TensorRT.
        forms: which forms and head graphs to compile.
        targets: compute capabilities (``sm86``); empty: this machine's GPU.
        precision: of the forms; see `ocl_edge_export.precision`. Head graphs are float32 in all.
        min_batch: smallest batch that the engine takes.
        opt_batch: batch that it is tuned for.
        max_batch: largest batch that it takes.
        workspace_mib: scratch memory that the builder may plan with, None: no limit.
        tf32: allow TensorFloat-32 where the graph is float32.
        timeout_s: of each engine.
        rebuild: also where a valid engine is there.
        calibration: directory of images, for int8 ranges and the precision gate.
        labels: directory of label images (class indices) of the same names.
        label_map: see `ocl_edge.scoring.labels.read_label_space`.
        label_classes: likewise.
    """

    flavour: FlavourName
    forms: tuple[GraphName, ...] = FORMS
    targets: tuple[str, ...] = ()
    precision: Precision = "fp32"
    min_batch: int = 1
    opt_batch: int = 1
    max_batch: int = 2
    workspace_mib: int | None = None
    tf32: bool = False
    timeout_s: float = 1800.0
    rebuild: bool = False
    calibration: Path | None = None
    labels: Path | None = None
    label_map: Path | None = None
    label_classes: Path | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.min_batch <= self.opt_batch <= self.max_batch:
            raise UsageError(
                f"batches must rise from 1: --min-batch {self.min_batch}, --opt-batch {self.opt_batch}, "
                f"--max-batch {self.max_batch}"
            )
        if self.precision == "int8" and self.calibration is None:
            raise UsageError("--precision int8 needs frames to find the value ranges: --calibration DIR")
        if self.labels is not None and self.calibration is None:
            raise UsageError("--labels belong to the images of --calibration DIR, which is missing")
        if self.labels is None and (self.label_map or self.label_classes):
            raise UsageError("--label-map and --label-classes describe --labels DIR, which is missing")

    @property
    def flags(self) -> tuple[str, ...]:
        """The choices that have no field of their own in an engine's key."""
        flags = ["tf32"] if self.tf32 else []
        return (*flags, *([f"workspace={self.workspace_mib}MiB"] if self.workspace_mib else []))
