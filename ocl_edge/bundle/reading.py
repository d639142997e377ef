"""Reading a bundle: its manifest, the check of its files, and the parts of the network in them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, fx

from ocl_edge.bundle.manifest import MANIFEST, HeadGraphs, Manifest, file_sha256, read_manifest
from ocl_edge.bundle.mistaken import instead_of_bundle, is_bundle
from ocl_edge.errors import BundleError
from ocl_edge.method.norms import SourceNorms
from ocl_edge.network.programs import Shape, read_program
from ocl_edge.network.tail import Tail
from ocl_edge.network.weight_file import WEIGHT_FILE


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    Attributes:
        path: its directory.
        manifest: the validated manifest.
        identity: sha256 of manifest.json; it covers every file through their hashes.
    """

    path: Path
    manifest: Manifest
    identity: str

    @classmethod
    def open(cls, path: Path | str, verify: bool = True) -> Bundle:
        """Read a bundle and verify the hash of every file.

        Raises:
            BundleError: missing, incomplete, changed (the file is named), or of a newer schema.
        """
        path = Path(path)
        try:
            raw = (path / MANIFEST).read_bytes()
        except OSError as error:
            if is_bundle(path):
                raise BundleError(f"{path / MANIFEST} cannot be read: {error.strerror}") from error
            raise BundleError(instead_of_bundle(path)) from error
        bundle = cls(path, read_manifest(raw, path), hashlib.sha256(raw).hexdigest())
        if verify:
            bundle.verify()
        return bundle

    def verify(self) -> None:
        """Compare size and sha256 of every file with the manifest.

        Raises:
            BundleError: naming the first file that is missing or changed.
        """
        for name, spec in self.manifest.files.items():
            file = self.path / name
            if not file.is_file():
                raise BundleError(f"{self.path}: {name} is missing; export the bundle again")
            if file.stat().st_size != spec.bytes or file_sha256(file) != spec.sha256:
                raise BundleError(
                    f"{self.path}: {name} was changed after export (its sha256 is not the manifest's); "
                    "export the bundle again"
                )

    def file(self, name: str) -> Path:
        """Path of a file that the manifest lists.

        Raises:
            BundleError: the manifest does not list it.
        """
        if name not in self.manifest.files:
            raise BundleError(
                f"{self.path} holds no {name}; it lists: {', '.join(sorted(self.manifest.files))}"
            )
        return self.path / name

    def require_head_graphs(self) -> HeadGraphs:
        """The head graphs.

        Raises:
            BundleError: there are none; with the reason and what to do.
        """
        if self.manifest.head_graphs is None:
            raise BundleError(
                f"{self.path} has no head graphs ({self.manifest.no_head_graphs}); --head torch needs none"
            )
        return self.manifest.head_graphs


def load_backbone(bundle: Bundle) -> fx.GraphModule:
    """The plain backbone: image float32 [N, 3, H, W] -> features.

    Raises:
        BundleError: the program is damaged or does not fit; see `read_program`.
    """
    frame = bundle.manifest.input
    return _program(bundle, "backbone.json", [(3, frame.height, frame.width)], bundle.manifest.features)


def load_head(bundle: Bundle) -> fx.GraphModule:
    """The head with its source weights: features -> logits at the network's own resolution.

    Raises:
        BundleError: the program is damaged or does not fit; see `read_program`.
    """
    return _program(bundle, "head.json", bundle.manifest.features, [bundle.manifest.logits])


def load_head_weights(bundle: Bundle) -> dict[str, Tensor]:
    """The head's source weights by the names of its parameters.

    Raises:
        BundleError: see `load_head`.
    """
    return {name: parameter.detach() for name, parameter in load_head(bundle).named_parameters()}


def load_tail(bundle: Bundle) -> Tail:
    """From logits to masks.

    Raises:
        BundleError: see `load_head`.
    """
    captured = None
    if "tail.json" in bundle.manifest.files:
        captured = _program(bundle, "tail.json", [bundle.manifest.logits], [None])
    return Tail(bundle.manifest.align_corners, captured)


def load_norms(bundle: Bundle) -> SourceNorms:
    """What training left in the norms of the backbone."""
    return SourceNorms(**load_file(bundle.file("norms.safetensors")))


def _program(
    bundle: Bundle, name: str, inputs: Sequence[Shape], outputs: Sequence[Shape | None]
) -> fx.GraphModule:
    return read_program(bundle.file(name), bundle.file(WEIGHT_FILE), inputs, outputs)
