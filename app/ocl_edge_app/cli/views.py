"""How a bundle looks on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ocl_edge.bundle.manifest import Manifest
from ocl_edge.bundle.manifest_parts import LEARNED, OutputSpec
from ocl_edge.bundle.reading import Bundle
from ocl_edge_app.cli.output import print_rows, print_table

if TYPE_CHECKING:
    from ocl_edge_export.cuts import PossibleCut
    from ocl_edge_runtime.calibration.findings import Calibration


def show_bundle(bundle: Bundle) -> None:
    """The manifest, the parity report and the files."""
    manifest = bundle.manifest
    pinned = sum(norm.pinned for norm in manifest.norms)
    rows = "every row" if manifest.stat_rows == 1 else f"every {manifest.stat_rows}th row"
    print_rows(
        f"bundle {bundle.path}",
        {
            "identity": bundle.identity,
            "network": f"{manifest.architecture} from {manifest.checkpoint}",
            "input": f"{manifest.input.height}x{manifest.input.width} {manifest.input.colours}",
            "features": " + ".join("x".join(map(str, shape)) for shape in manifest.features),
            "head": manifest.head_module,
            "logits": "x".join(map(str, manifest.logits)),
            "output": describe_output(manifest.output),
            "norms": f"{len(manifest.norms)} ({manifest.norm_channels:,} channels, {pinned} pinned), "
            f"statistics from {rows}"
            if manifest.norms
            else "none: only the head adapts",
            "home": describe_home(manifest),
            "classes": ", ".join(c.name for c in manifest.classes),
            "made with": ", ".join(f"{name} {version}" for name, version in manifest.created_with.items()),
        },
    )
    show_parity(bundle)
    print_table(
        "files, all verified",
        ["file", "bytes", "sha256"],
        [[name, f"{spec.bytes:,}", spec.sha256[:16]] for name, spec in manifest.files.items()],
    )


def describe_home(manifest: Manifest) -> str:
    """What a bundle knows of home."""
    home = manifest.home
    if home is None:
        return "not measured: ocl-edge calibrate tells what is home (--frames DIR, unlabelled)"
    words = [f"{home.frames} frames" if home.at_home else f"{home.frames} frames, which are not home"]
    if manifest.norms:
        fitted = "learned" if home.fullness == LEARNED else f"fitted, {home.fullness:g} of them"
        words.append(f"weights of the norms {fitted}" if home.fitted else "weights of the default prior")
    else:
        words.append(f"the head's input moved home, {home.fullness:g} of the way")
    if home.head is not None:
        words.append(f"head learns at {home.head.lr:g}" if home.head.lr else "head stays as trained")
    return "; ".join(words)


def show_calibration(bundle: Bundle, found: Calibration) -> None:
    """What home frames have told."""
    of = f"{bundle.output}: " if bundle.output else ""
    print_table(
        f"{of}corrupted copies: distance and opening; mIoU against the frozen network's sure pixels, %",
        ["copies", "distance", "opening", *found.tried],
        [
            [name, *_mean_of(found.copies[name]), *(f"{value:.1f}" for value in values)]
            for name, values in found.agreement.items()
        ],
    )
    seen = list(zip(found.distances, found.openings, strict=True))
    print_rows(
        "",
        {
            "home frames": "distance {}, opening {}, ".format(*_mean_of(seen))
            + f"confidence {found.home.confidence.median:.2f}, loss {found.home.loss.median:.2f}",
            "home": describe_home(bundle.manifest),
            "bundle": f"{bundle.path}, identity {bundle.identity[:16]}",
            **{f"note {number}": note for number, note in enumerate(found.notes, 1)},
        },
    )


def _mean_of(seen: Sequence[tuple[float, float]]) -> tuple[str, str]:
    distance, opening = (sum(values) / len(seen) for values in zip(*seen, strict=True))
    return f"{distance:.2f}", f"{opening:.2f}"


def describe_output(output: OutputSpec) -> str:
    """Which output of the network was taken, as what, and which were not."""
    words = [repr(output.name)] if output.name else []
    words.append(output.values if output.values == "logits" else f"{output.values}; the loss gets logits")
    if output.threshold is not None:
        words.append(f"one channel: foreground from {output.threshold:g}")
    if output.others:
        others = ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, shape in output.others.items())
        words.append(f"not taken: {others} (choose with export --output)")
    return "; ".join(words)


def show_parity(bundle: Bundle) -> None:
    """How far each exported form is from its reference."""
    parity, of = bundle.manifest.parity, f"of {bundle.output} " if bundle.output else ""
    print_table(
        f"parity {of}on {parity['images']} images ({parity['images_from']})",
        ["form", "features", "logits", "other class"],
        [
            [
                name,
                f"{difference['features_relative']:.1e}",
                f"{difference['logits_relative']:.1e}",
                f"{100 * difference['class_disagreement']:.4f} %",
            ]
            for name, difference in parity["forms"].items()
        ],
    )


def show_cuts(cuts: Sequence[PossibleCut]) -> None:
    """Where a network can be cut."""
    print_table(
        "possible cuts, in order of execution",
        ["head starts at", "weights", "features MB a frame", "compute", ""],
        [
            [
                cut.module,
                f"{cut.parameters:,}",
                f"{cut.features_mb:.2f}",
                f"{100 * cut.compute:.1f} %",
                "auto" if cut.taken else "",
            ]
            for cut in cuts
        ],
    )


def show_export(bundles: Mapping[str, Bundle]) -> None:
    """What an export made; of several outputs each by its name."""
    for bundle in bundles.values():
        show_parity(bundle)
    first = next(iter(bundles.values()))
    size = sum(spec.bytes for spec in first.manifest.files.values())
    rows: dict[str, object] = {}
    for name, manifest in ((name, bundle.manifest) for name, bundle in bundles.items()):
        of = f" {name}" if name else ""
        rows[f"output{of}"] = describe_output(manifest.output)
        rows[f"head{of}"] = f"{manifest.head_module} ({manifest.head_parameters:,} weights)"
        rows[f"home{of}"] = describe_home(manifest)
    unfit = "; ".join(f"{name}: {why}" for name, why in first.manifest.unfit_backends.items())
    places = "overlay:out" if "" in bundles else "'overlay:out/{output}'"
    rows |= {
        "unfit backends": unfit or "none",
        "bundle": f"{first.path} ({size / 1e6:.1f} MB)",
        "next": f"ocl-edge run {first.path} --source DIR --sink {places}",
    }
    print_rows("", rows)
