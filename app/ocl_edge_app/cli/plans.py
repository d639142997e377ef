"""Plans of engines on the terminal: of ``build --plan``, ``inspect`` and ``profile --estimate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from ocl_edge_app.cli.output import emit_json, note, print_table

if TYPE_CHECKING:
    from ocl_edge.bundle.reading import Bundle
    from ocl_edge.tensorrt.key import EngineRecord

SHOWN = 10
"""Kernels of each engine, those that move the most bytes."""


def show_engines(records: Sequence[EngineRecord]) -> None:
    """A row for every engine: what it was built for, and what its kernels move and compute for an image."""
    rows = [
        [
            record.key.form,
            record.key.precision,
            f"{record.key.flavour} {record.key.version}",
            " ".join(record.key.compute_capabilities),
            *_sums(record),
        ]
        for record in records
    ]
    columns = ["form", "precision", "library", "for", "kernels", "moved", "operations"]
    print_table("engines, a batch of one", columns, rows)


def _sums(record: EngineRecord) -> list[str]:
    if record.plan is None:
        return ["not told", "", ""]
    plan = record.plan
    return [str(len(plan.kernels)), f"{plan.bytes / 1e6:,.0f} MB", f"{plan.operations / 1e9:,.2f} G"]


def show_kernels(records: Sequence[EngineRecord]) -> None:
    """The costliest kernels of every engine."""
    for record in records:
        if record.plan is None:
            note(f"{record.key.form}: {record.key.flavour} {record.key.version} does not tell its kernels")
            continue
        whole = max(record.plan.bytes, 1)
        rows = [
            [
                kernel.module or "(of no module)",
                kernel.kind,
                f"{kernel.bytes / 1e6:,.1f} MB",
                f"{100 * kernel.bytes / whole:.1f} %",
                f"{kernel.operations / 1e6:,.1f} M",
            ]
            for kernel in record.plan.costliest(SHOWN)
        ]
        title = f"{record.key.form}, {record.key.precision}: the {len(rows)} kernels that move the most"
        print_table(title, ["module", "kernel", "moved", "of all", "operations"], rows)


def show_estimate(bundle: Bundle, words: str, json_path: str | None) -> None:
    """What the engines of a bundle would take on a device.

    Raises:
        UsageError: the device is not known, or no engine's plan is.
    """
    from ocl_edge.errors import UsageError
    from ocl_edge.tensorrt.store import list_engines
    from ocl_edge_app.profile.estimate import estimate_engines, find_device

    device = find_device(words)
    estimates = estimate_engines([engine.record for engine in list_engines(bundle)], device)
    if not estimates:
        raise UsageError(
            f"an estimate needs the kernels of an engine, and {bundle.path} has no engine that tells them; "
            "build some, which needs no GPU: "
            f"ocl-edge build {bundle.named} --backend tensorrt-rtx --targets sm86"
        )
    if json_path:
        told = {"device": asdict(device), "estimates": [asdict(each) for each in estimates]}
        emit_json(json_path, {"bundle": bundle.identity, **told})
    if json_path != "-":
        rows = [
            [
                each.form,
                each.precision,
                str(each.kernels),
                f"{each.bytes / 1e6:,.0f} MB",
                f"{each.operations / 1e9:,.2f} G",
                f"{each.launches_ms:.2f} ms",
                f"{each.ms:.2f} ms",
            ]
            for each in estimates
        ]
        columns = ["form", "precision", "kernels", "moved", "operations", "of it launches", "at least"]
        print_table(f"estimate for {device.name}: a backbone pass, batch 1", columns, rows)
        note(
            f"nothing was measured: {device.bandwidth:g} GB/s and {device.peaks['fp32']:g} TFLOPS are the "
            f"data sheet's, {device.launch_us:g} us a kernel are assumed; the true time is longer"
        )
