"""What a bundle knows of home: measured on unlabelled frames, stored beside the network."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass

from ocl_edge import durable
from ocl_edge.bundle.manifest import MANIFEST, FileSpec, HomeSpec
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BundleError, OutputError
from ocl_edge.method.mixing import Mixing
from ocl_edge.tensor_files import check_tensor, read_tensors, serialise_tensors
from ocl_edge.tensors import Tensor, torch

WEIGHTS, MEAN, DEVIATION = "weights", "mean", "deviation"


@dataclass(frozen=True)
class HomeTensors:
    """What is known of home channel by channel, float32 [2, S] each.

    Attributes:
        weights: of the trained means and variances where a session is wide open, 0 to 1 (`Mixing`).
        mean: of the home frames' statistics, measured unmixed.
        deviation: of them, from frame to frame.
    """

    weights: Tensor
    mean: Tensor
    deviation: Tensor


def load_home(bundle: Bundle) -> HomeTensors:
    """The tensors of a bundle that was calibrated.

    Raises:
        BundleError: the file is damaged or does not fit the manifest.
    """
    assert bundle.manifest.home is not None
    file = bundle.file(bundle.manifest.home.file)
    try:
        tensors = read_tensors(file)
        if set(tensors) != {WEIGHTS, MEAN, DEVIATION}:
            raise ValueError(f"tensors {', '.join(sorted(tensors))}, expected weights, mean, deviation")
        for name, tensor in tensors.items():
            check_tensor(name, tensor, (2, bundle.manifest.norm_channels))
        if bool((tensors[WEIGHTS] < 0).any()) or bool((tensors[WEIGHTS] > 1).any()):
            raise ValueError("weights: expected 0 to 1")
        if bool((tensors[DEVIATION] < 0).any()):
            raise ValueError("deviation: expected 0 or above")
    except ValueError as error:
        raise BundleError(f"{bundle.path}: {file.name} does not fit the manifest: {error}") from error
    return HomeTensors(**tensors)


def load_mixing(bundle: Bundle) -> Mixing | None:
    """How the norms of a calibrated bundle mix; None where its frames did not tell."""
    home = bundle.manifest.home
    if home is None or not home.fitted:
        return None
    return Mixing(load_home(bundle).weights, between=True)


def store_home(bundle: Bundle, home: HomeSpec, tensors: HomeTensors) -> Bundle:
    """Write what is known of home into a bundle, in the place of what it knew before.

    The file of the tensors has a name of its own for each content, and the manifest is replaced in one
    step: whenever the power ends, the bundle is the old one or the new one. Its identity is another:
    states of the old one do not fit; engines do.

    Raises:
        BundleError: the bundle cannot be written, or is a directory of links, which others may share.
    """
    content = serialise_tensors({name: value.contiguous() for name, value in vars(tensors).items()}, {})
    digest = hashlib.sha256(content).hexdigest()
    name = f"home.{digest[:12]}.safetensors"
    manifest, before = bundle.manifest, bundle.manifest.home
    if (bundle.path / MANIFEST).is_symlink():
        raise BundleError(
            f"{bundle.path} is made of links, whose files others may use; copy it with its content first: "
            f"cp -rL"
        )
    kept = {file: spec for file, spec in manifest.files.items() if before is None or file != before.file}
    files = {**kept, name: FileSpec(sha256=digest, bytes=len(content))}
    complete = manifest.model_copy(
        update={"home": home.model_copy(update={"file": name}), "files": dict(sorted(files.items()))}
    )
    try:
        durable.write_bytes(bundle.path / name, content)
        durable.write_text(bundle.path / MANIFEST, complete.model_dump_json(indent=1) + "\n")
    except OutputError as error:
        raise BundleError(f"{error}; the bundle is as it was") from error
    if before is not None and before.file != name:
        with contextlib.suppress(OSError):  # nobody reads it any more
            (bundle.path / before.file).unlink()
    return Bundle.open(bundle.path)


def statistics_of(frames: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of statistics over frames, [2, S] each."""
    stacked = torch.stack(frames)
    return stacked.mean(0), stacked.std(0, correction=0)
