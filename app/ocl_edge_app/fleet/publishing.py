"""From a round's contributions to a signed version: aggregated, judged, and only then there for everybody."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ocl_edge.bundle.fleet import Release, new_release
from ocl_edge.bundle.manifest import MANIFEST, MOST_MANIFEST_BYTES
from ocl_edge.bundle.reading import Bundle
from ocl_edge.bundle.signature import SIGNATURE, SIGNATURE_BYTES, sign_manifest
from ocl_edge.errors import FleetError
from ocl_edge.given_files import read_given
from ocl_edge_app.evaluation.labelled import LabelledFrames, LabelSpace
from ocl_edge_app.fleet.aggregation import Aggregate, Rules, aggregate
from ocl_edge_app.fleet.contribution import Border, Contribution
from ocl_edge_app.fleet.judgement import Computes, Image, check_heads, compare_versions
from ocl_edge_app.fleet.versions import Versions


@dataclass(frozen=True)
class Judges:
    """What a version must pass before it is published.

    Attributes:
        frames: unlabelled, by their names; none: the guard sees none.
        labelled: footage with labels, and its classes; None: there is none.
        computes: what runs the network.
    """

    frames: tuple[tuple[str, Image], ...] = ()
    labelled: tuple[LabelledFrames, LabelSpace] | None = None
    computes: Computes = field(default_factory=Computes)


@dataclass(frozen=True)
class Published:
    """What became of a round.

    Attributes:
        bundle: the new version; None: the one before stays.
        refusal: why there is none.
        aggregate: see `Aggregate`.
        miou: on the labelled footage, before and after, percent; None where there is none.
    """

    bundle: Bundle | None
    refusal: str | None
    aggregate: Aggregate
    miou: tuple[float, float] | None = None


def publish_round(
    versions: Versions,
    border: Border,
    contributions: Mapping[str, Contribution],
    key: Path,
    judges: Judges,
    rules: Rules | None = None,
) -> Published:
    """Make the next version of a fleet's bundle of what its vehicles sent, if it passes.

    Args:
        versions: of the server.
        border: of the fleet's network.
        contributions: by vehicle, checked.
        key: file of the private key that signs.
        judges: see `Judges`.
        rules: of the aggregation.

    Raises:
        UsageError: ``key`` holds no private key.
        OclEdgeError: the version cannot be computed or written.
    """
    found = aggregate(contributions, border.trained, rules)
    if found.fleet is None:
        return Published(None, "no condition has heads of enough vehicles", found)
    before = versions.current()
    counts = tuple(len(names) for names in found.vehicles)
    release = new_release(before, versions.newest + 1, found.fleet, counts)
    try:
        with tempfile.TemporaryDirectory(prefix=".candidate.", dir=versions.directory) as place:
            tried = Versions.begin(Path(place) / "tried", before, None)
            candidate = tried.add(release)
            if judges.frames:
                check_heads(candidate, judges.frames, judges.computes)
            miou = judges.labelled and compare_versions(before, candidate, *judges.labelled, judges.computes)
    except FleetError as error:
        return Published(None, str(error), found)
    bundle = versions.add(sign_release(release, key))
    versions.take(versions.newest)
    return Published(bundle, None, found, miou)


def sign_release(release: Release, key: Path) -> Release:
    """A release with its signature.

    Raises:
        UsageError: the file holds no Ed25519 private key.
    """
    with tempfile.TemporaryDirectory() as place:
        sign_manifest(release.manifest, Path(place), key)
        return replace(release, signature=(Path(place) / SIGNATURE).read_bytes())


def read_release(bundle: Bundle) -> Release | None:
    """What vehicles need of a version; None for the bundle that the fleet began with.

    Raises:
        OSError: it cannot be read.
    """
    spec = bundle.manifest.fleet
    if spec is None:
        return None
    return Release(
        read_given(bundle.path / MANIFEST, MOST_MANIFEST_BYTES),
        read_given(bundle.file(spec.file), bundle.manifest.files[spec.file].bytes),
        read_given(bundle.path / SIGNATURE, SIGNATURE_BYTES),
    )
