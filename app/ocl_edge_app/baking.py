"""What a session learned, put back into the user's own network, and compared with the session's masks."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from ocl_edge.bundle.manifest_parts import NormSpec
from ocl_edge.bundle.reading import Bundle, load_backbone, load_tail
from ocl_edge.errors import ParityError, StateError, UsageError
from ocl_edge.masks import Mask
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.network.batch_norms import some_stay
from ocl_edge.network.preprocess import Preprocessor
from ocl_edge.network.tail import Tail
from ocl_edge_export.baking import (
    OriginalNetwork,
    change_tensors,
    masks_of,
    rebuild_network,
    write_checkpoint,
)
from ocl_edge_export.parity import Tolerances
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_runtime.records.state import STATE_FILE, Saved, read_state
from ocl_edge_runtime.session.norm_vectors import NormVectors
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import OpeningKind, RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.session import Session

NormsTaken = Literal["running", "trained"]
CHECKPOINTS = (".pth", ".pt")
"""Endings of ``--out`` that ask for a checkpoint; any other name is a bundle's."""

NOISE_IMAGES = 4


@dataclass(frozen=True)
class BakeRequest:
    """What is baked.

    Attributes:
        state: directory of the saved state.
        out: file of the checkpoint (`CHECKPOINTS`), or directory of a bundle.
        original: names the network.
        norms: ``running``: statistics as the session's running average would mix them now; ``trained``: only
            the head is taken.
        opening: that the session ran with where it was a number; the state does not hold that.
        images: uint8 [H, W, C] to compare the masks on, C as the network's frames have it; empty: noise.
        force: replace what lies there.
    """

    state: Path
    out: Path
    original: OriginalNetwork
    norms: NormsTaken = "running"
    opening: OpeningKind | None = None
    images: Sequence[NDArray[np.uint8]] = ()
    force: bool = False


@dataclass(frozen=True)
class Baked:
    """What came of it.

    Attributes:
        out: where it lies.
        changed: names of the tensors that differ from the trained ones.
        weights_distance: of the head from its trained weights, relative to these.
        opening: that the statistics are mixed at.
        disagreement: share of pixels whose class is not the session's.
        images: that was found on.
        notes: of the network, as export gives them.
    """

    out: Path
    changed: list[str]
    weights_distance: float
    opening: float
    disagreement: float
    images: int
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "out": str(self.out), "notes": list(self.notes)}


def bake(bundle: Bundle, request: BakeRequest, progress: Callable[[str], None] = lambda _: None) -> Baked:
    """Write the user's network with what a session has learned in it.

    The network as written is read back and must give the session's masks.

    Raises:
        StateError: no state of this bundle, or one that cannot be baked.
        CheckpointError: the network cannot be rebuilt, or does not keep what was learned.
        ParityError: its masks are not the session's; nothing is written.
        UsageError: the place is taken.
    """
    if request.out.exists() and not request.force:
        raise UsageError(f"{request.out} exists; choose another --out, or replace it with --force")
    progress("read state")
    saved = read_state(request.state / STATE_FILE)
    progress("rebuild network")
    loaded = rebuild_network(bundle, request.original)
    trained = {name: tensor.clone() for name, tensor in loaded.network.state_dict().items()}
    with open_saved(bundle, saved, request.opening) as session:
        learned = _learned(session, bundle, saved, request.norms)
        change_tensors(loaded.network, learned)
        progress("compare masks")
        spec = bundle.manifest.input
        images = [_resized(image, (spec.height, spec.width)) for image in request.images]
        images = images or _noise(spec.height, spec.width, spec.frame_channels)
        preprocessor = Preprocessor(spec)
        tensors = torch.cat([preprocessor.single(image).clone() for image in images])
        masks = masks_of(loaded.network, bundle.manifest.output, tensors)
        disagreement = _disagreement(session, load_tail(bundle), images, masks)
        distance = session.weights.distance_from_trained()
        opening = session.norms.openness.value if session.norms.openness else 0.0
    most = Tolerances().class_disagreement
    if disagreement > most:
        raise ParityError(
            f"the baked network gives {100 * disagreement:.2f} % of the pixels another class than the "
            f"session (at most {100 * most:.1f} %); nothing was written"
        )
    progress("write")
    _write(bundle, loaded.network, request, progress)
    changed = [n for n, t in loaded.network.state_dict().items() if not torch.equal(t, trained[n])]
    return Baked(request.out, changed, distance, opening, disagreement, len(images), loaded.notes)


def open_saved(bundle: Bundle, saved: Saved, opening: OpeningKind | None) -> Session:
    """A session that has taken a state over, with the method and the mixing that it was saved with.

    Raises:
        StateError: of another bundle, damaged, or saved under a fixed opening that was not named.
    """
    method, settings = saved.facts.get("method"), saved.facts.get("settings")
    try:
        prior = AdaptationDefaults.model_validate_json(json.dumps(settings)).prior
        default = SessionOptions(str(method)).settings_over(bundle.manifest.adaptation).prior
    except (ValidationError, TypeError, UsageError) as error:
        raise StateError(f"the saved state does not say what it was saved with: {error}") from error
    if opening is None and "opening" not in saved.tensors and bundle.manifest.norms:
        raise StateError(
            "the state was saved by a run with --opening NUMBER, which it does not hold: name that number"
        )
    if not bundle.manifest.norms:
        opening = 0.0  # what moves the head's input frame by frame is no part of the network
    options = SessionOptions(
        str(method),
        prior=None if prior == default else prior,
        opening="auto" if opening is None else opening,
        mask_size="network",
    )
    session = open_session(bundle, options, RealtimeOptions(norm_every=2))  # of the running average
    try:
        session.import_state(saved.tensors, saved.facts)
    except BaseException:
        session.close()
        raise
    return session


def _learned(session: Session, bundle: Bundle, saved: Saved, norms: NormsTaken) -> dict[str, Tensor]:
    """Tensors of the network by name; the session's masks follow them from here on."""
    learned = dict(session.weights.snapshot())
    if not bundle.manifest.norms:
        return learned
    policy = session.norms
    assert isinstance(policy, NormVectors)
    statistics = policy.trained.statistics
    if norms == "running":
        if "average" not in saved.tensors:
            raise StateError(
                "the state holds no running statistics: its session has measured none; --norms trained bakes "
                "the head alone"
            )
        policy.use_average()
        statistics = policy.mixed
        learned |= _by_norm(statistics, bundle.manifest.norms)
    else:
        policy.use(statistics)
    return learned


def _by_norm(statistics: Tensor, norms: Sequence[NormSpec]) -> dict[str, Tensor]:
    """Packed statistics [2, S] -> ``NAME.running_mean`` and ``NAME.running_var``."""
    found: dict[str, Tensor] = {}
    pieces = torch.split(statistics, [norm.channels for norm in norms], dim=1)
    for norm, (mean, var) in zip(norms, pieces, strict=True):
        named = {f"{norm.name}.running_mean": mean, f"{norm.name}.running_var": var}
        if any(n in found and not torch.equal(found[n], value) for n, value in named.items()):
            raise StateError(
                f"the norm {norm.name} works in two places of the network with one set of statistics, and "
                "the session has two: --norms trained bakes the head alone"
            )
        found |= named
    return found


def _disagreement(session: Session, tail: Tail, images: list[NDArray[np.uint8]], masks: list[Mask]) -> float:
    """Share of pixels with another class than the session gives with its statistics as they are."""
    differing = []
    for image, mask in zip(images, masks, strict=True):
        logits = session.segmenter.see(image, measured=False).logits.detach()
        differing.append(np.mean(tail.mask(logits, *mask.shape) != mask))
    return float(np.mean(differing))


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """At the network's size, so that no resize and no bars come between the two masks."""
    from PIL import Image

    return np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


def _noise(height: int, width: int, channels: int) -> list[NDArray[np.uint8]]:
    """Coarse noise, which has edges and areas as pictures have."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(
        0, 256, (NOISE_IMAGES, height // 8 + 1, width // 8 + 1, channels), dtype=np.uint8
    )
    return [_resized(image, (height, width)) for image in coarse]


def _write(
    bundle: Bundle, network: torch.nn.Module, request: BakeRequest, progress: Callable[[str], None]
) -> None:
    if request.out.suffix in CHECKPOINTS:
        write_checkpoint(network, request.out, request.force)
        return
    manifest = bundle.manifest
    with tempfile.TemporaryDirectory() as directory:
        checkpoint, classes = Path(directory) / "baked.pth", Path(directory) / "classes.json"
        write_checkpoint(network, checkpoint, force=False)
        names = [each.name for each in manifest.classes]
        palette = [each.colour for each in manifest.classes]
        classes.write_text(json.dumps({"classes": names, "palette_rgb": palette}), encoding="utf-8")
        spec = manifest.input
        export_bundle(
            ExportRequest(
                checkpoint,
                request.out,
                arch=request.original.arch,
                input_size=(spec.height, spec.width),
                classes=classes,
                split="auto" if " + " in manifest.head_module else manifest.head_module,
                norms="alternate" if some_stay(load_backbone(bundle)) else "all",
                stat_rows=manifest.stat_rows,
                mean=spec.mean,
                std=spec.std,
                force=request.force,
                output=manifest.output.name or None,
                threshold=0.5 if manifest.output.threshold is None else manifest.output.threshold,
                colour=None if spec.colours == "any" else spec.colours,
                resize=spec.resize,
                scale=spec.scale,
            ),
            progress,
        )
