"""What a bundle knows of home: measured on unlabelled frames, stored beside the network."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from ocl_edge import durable
from ocl_edge.bundle.manifest import MANIFEST
from ocl_edge.bundle.manifest_parts import FileSpec, HomeSpec
from ocl_edge.bundle.outputs import text_of
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BundleError, OutputError
from ocl_edge.method.head_input import HeadInput
from ocl_edge.method.mixing import Mixing
from ocl_edge.tensor_files import check_tensor, read_tensors, serialise_tensors
from ocl_edge.tensors import Tensor, torch

WEIGHTS, MEAN, DEVIATION, HEAD_INPUT = "weights", "mean", "deviation", "head_input"


@dataclass(frozen=True)
class HomeTensors:
    """What is known of home channel by channel, float32 [2, S] each, or [2, F] of the head's input.

    Attributes:
        weights: of the trained means and variances where a session is wide open, 0 to 1 (`Mixing`).
        mean: of the home frames' statistics, measured unmixed.
        deviation: of them, from frame to frame.
        head_input: mean of every channel of the head's input over the frames (row 0), and its deviation from
            frame to frame (row 1); None in older bundles.
    """

    weights: Tensor
    mean: Tensor
    deviation: Tensor
    head_input: Tensor | None = None


def load_home(bundle: Bundle) -> HomeTensors:
    """The tensors of a bundle that was calibrated.

    Raises:
        BundleError: the file is damaged or does not fit the manifest.
    """
    assert bundle.manifest.home is not None
    file = bundle.file(bundle.manifest.home.file)
    try:
        tensors = read_tensors(file)
        if set(tensors) - {HEAD_INPUT} != {WEIGHTS, MEAN, DEVIATION}:
            raise ValueError(f"tensors {', '.join(sorted(tensors))}, expected weights, mean, deviation")
        for name, tensor in tensors.items():
            manifest = bundle.manifest
            check_tensor(
                name, tensor, (2, manifest.head_channels if name == HEAD_INPUT else manifest.norm_channels)
            )
        if bool((tensors[WEIGHTS] < 0).any()) or bool((tensors[WEIGHTS] > 1).any()):
            raise ValueError("weights: expected 0 to 1")
        if bool((tensors[DEVIATION] < 0).any()):
            raise ValueError("deviation: expected 0 or above")
        if HEAD_INPUT in tensors and bool((tensors[HEAD_INPUT][1] < 0).any()):
            raise ValueError("head_input: expected deviations from 0")
    except ValueError as error:
        raise BundleError(f"{bundle.path}: {file.name} does not fit the manifest: {error}") from error
    return HomeTensors(**tensors)


def load_mixing(bundle: Bundle) -> Mixing | None:
    """How the norms of a calibrated bundle mix; None where its frames did not tell."""
    home = bundle.manifest.home
    if home is None or not home.fitted:
        return None
    return Mixing(load_home(bundle).weights, between=True)


def load_head_input(bundle: Bundle) -> HeadInput | None:
    """Of a network without norms that was calibrated; None for every other one."""
    home = bundle.manifest.home
    if bundle.manifest.norms or home is None or home.features_distance is None:
        return None
    measured = load_home(bundle).head_input
    return None if measured is None else HeadInput(measured, home.features_distance.high, home.fullness)


def require_all_outputs(bundles: Mapping[str, Bundle]) -> None:
    """Refuse to measure home for one of several outputs: all of them share the norms.

    Raises:
        BundleError: with the command for all.
    """
    path = next(iter(bundles.values())).path
    there = Bundle.open_outputs(path, verify=False)
    if set(bundles) != set(there):
        raise BundleError(
            f"{path} has the outputs {', '.join(there)}, which share their norms: home is measured for all "
            f"together: ocl-edge calibrate {path}"
        )


def store_home(bundle: Bundle, home: HomeSpec, tensors: HomeTensors) -> Bundle:
    """As `store_homes`, of a bundle with one output."""
    return store_homes({bundle.output: bundle}, {bundle.output: (home, tensors)})[bundle.output]


def store_homes(
    bundles: Mapping[str, Bundle], found: Mapping[str, tuple[HomeSpec, HomeTensors]]
) -> dict[str, Bundle]:
    """Write what is known of home into a bundle, in the place of what it knew before.

    The files of the tensors have a name of their own for each content, and the manifest is replaced in one
    step: whenever the power ends, the bundle is the old one or the new one. Its identity is another:
    states of the old one do not fit; engines do.

    Args:
        bundles: every output of the bundle, by name (`Bundle.open_outputs`).
        found: of each.

    Raises:
        BundleError: the bundle cannot be written, lacks an output, or is made of links, which others may
            share.
    """
    require_all_outputs(bundles)
    first = next(iter(bundles.values()))
    path, before = first.path, {b.manifest.home.file for b in bundles.values() if b.manifest.home}
    if (path / MANIFEST).is_symlink():
        raise BundleError(
            f"{path} is made of links, whose files others may use; copy it with its content first: cp -rL"
        )
    contents, specs, homes = {}, {}, {}
    for output, (home, tensors) in found.items():
        known = {name: value.contiguous() for name, value in vars(tensors).items() if value is not None}
        content = serialise_tensors(known, {})
        digest = hashlib.sha256(content).hexdigest()
        name = f"home.{digest[:12]}.safetensors"
        contents[name], specs[name] = content, FileSpec(sha256=digest, bytes=len(content))
        homes[output] = home.model_copy(update={"file": name})
    kept = {file: spec for file, spec in first.manifest.files.items() if file not in before}
    files = dict(sorted({**kept, **specs}.items()))
    complete = {
        output: bundle.manifest.model_copy(update={"home": homes[output], "files": files})
        for output, bundle in bundles.items()
    }
    try:
        for name, content in contents.items():
            durable.write_bytes(path / name, content)
        durable.write_text(path / MANIFEST, text_of(complete))
    except OutputError as error:
        raise BundleError(f"{error}; the bundle is as it was") from error
    for name in before - set(contents):
        with contextlib.suppress(OSError):  # nobody reads it any more
            (path / name).unlink()
    return Bundle.open_outputs(path)


def statistics_of(frames: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of statistics over frames, [2, S] each."""
    stacked = torch.stack(frames)
    return stacked.mean(0), stacked.std(0, correction=0)
