"""What a fleet has learned, inside a bundle: its file and its version are among what the manifest signs for.

A bundle of a fleet differs from the one that the fleet began with in ``manifest.json`` and in one file of
tensors. So a `Release` is three small files, and whoever has any bundle of the network has the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from ocl_edge.bundle.manifest import Manifest
from ocl_edge.bundle.manifest_parts import FileSpec, FleetSpec
from ocl_edge.bundle.reading import Bundle, load_head, load_head_weights
from ocl_edge.errors import BundleError
from ocl_edge.method.fleet_heads import FleetHead, FleetHeads
from ocl_edge.tensor_files import check_tensor, read_tensors, serialise_tensors
from ocl_edge.tensors import Tensor

STATISTICS, HEAD = "statistics", "head"


@dataclass(frozen=True)
class Release:
    """A version of a fleet's bundle: what is new in it.

    Attributes:
        manifest: bytes of ``manifest.json``.
        tensors: bytes of the file of tensors.
        signature: of the manifest (`ocl_edge.bundle.signature`); empty before it is signed.
    """

    manifest: bytes
    tensors: bytes
    signature: bytes = b""


def without_fleet(manifest: Manifest) -> Manifest:
    """The manifest of the bundle that the fleet began with."""
    if manifest.fleet is None:
        return manifest
    files = {name: spec for name, spec in manifest.files.items() if name != manifest.fleet.file}
    return manifest.model_copy(update={"fleet": None, "files": files})


def version_of(manifest: Manifest) -> int:
    """Of the fleet; 0 for the bundle that it began with."""
    return manifest.fleet.version if manifest.fleet else 0


def new_release(bundle: Bundle, version: int, fleet: FleetHeads, vehicles: tuple[int, ...]) -> Release:
    """The next version of a fleet's bundle, not signed yet.

    Args:
        bundle: of any version.
        version: of the new one.
        fleet: what was learned.
        vehicles: how many each head comes from.
    """
    tensors: dict[str, Tensor] = {}
    for index, head in enumerate(fleet.heads):
        tensors |= _named(index, head)
    content = serialise_tensors(tensors, {})
    digest = hashlib.sha256(content).hexdigest()
    before = without_fleet(bundle.manifest)
    name = f"fleet.{digest[:12]}.safetensors"
    files = {**before.files, name: FileSpec(sha256=digest, bytes=len(content))}
    spec = FleetSpec(network=bundle.network, version=version, file=name, vehicles=vehicles)
    complete = before.model_copy(update={"fleet": spec, "files": dict(sorted(files.items()))})
    return Release((complete.model_dump_json(indent=1) + "\n").encode(), content)


def load_fleet(bundle: Bundle, trained: Mapping[str, Tensor]) -> FleetHeads | None:
    """The heads of a fleet's bundle; None where it is none.

    Args:
        bundle: that may be a fleet's.
        trained: the head as training left it, by name.

    Raises:
        BundleError: the file is damaged, or does not fit the manifest or the head.
    """
    spec = bundle.manifest.fleet
    if spec is None:
        return None
    file = bundle.file(spec.file)
    try:
        tensors = read_tensors(file)
        names = {f"{HEAD}.{name}": name for name in trained}
        heads = []
        for index in range(len(spec.vehicles)):
            own = {name: tensors.pop(f"{index}.{name}", None) for name in (STATISTICS, *names)}
            statistics = own.pop(STATISTICS)
            weights = {name: own[key] for key, name in names.items()}
            heads.append(checked(weights, statistics, trained, bundle.manifest))
        if tensors:
            raise ValueError(f"tensors that belong to no head: {', '.join(sorted(tensors)[:5])}")
    except ValueError as error:
        raise BundleError(f"{bundle.path}: {file.name} does not fit the manifest: {error}") from error
    return FleetHeads(tuple(heads))


def checked(
    weights: Mapping[str, Tensor | None],
    statistics: Tensor | None,
    trained: Mapping[str, Tensor],
    manifest: Manifest,
) -> FleetHead:
    """A head and its statistics, float32, finite, of the names and shapes of this bundle.

    Raises:
        ValueError: they are something else.
    """
    check_tensor(STATISTICS, statistics, (2, manifest.norm_channels))
    assert statistics is not None
    if bool((statistics[1] < 0).any()):
        raise ValueError(f"{STATISTICS}: expected variances from 0")
    if weights.keys() != trained.keys():
        raise ValueError(f"a head of {', '.join(sorted(weights))}; expected {', '.join(sorted(trained))}")
    whole = {}
    for name, weight in weights.items():
        check_tensor(f"{HEAD}.{name}", weight, tuple(trained[name].shape))
        assert weight is not None
        whole[name] = weight
    return FleetHead(whole, statistics)


def trained_head(bundle: Bundle) -> dict[str, Tensor]:
    """The head as training left it, by name; where it has no graphs, PyTorch reads it.

    Raises:
        BundleError: see `load_head`.
    """
    if bundle.manifest.head_graphs is not None:
        return load_head_weights(bundle)
    return {name: weight.detach() for name, weight in load_head(bundle).named_parameters()}


def _named(index: int, head: FleetHead) -> dict[str, Tensor]:
    weights = {f"{HEAD}.{name}": weight for name, weight in head.weights.items()}
    return {
        f"{index}.{name}": tensor.contiguous()
        for name, tensor in {STATISTICS: head.statistics, **weights}.items()
    }
