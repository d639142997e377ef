"""Reading a bundle: its manifest, the check of its files, and the parts of the network in them."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ocl_edge.bundle.links import check_link, without_links
from ocl_edge.bundle.manifest import MANIFEST, MOST_MANIFEST_BYTES, Manifest, file_sha256
from ocl_edge.bundle.manifest_parts import HeadGraphs
from ocl_edge.bundle.mistaken import instead_of_bundle, is_bundle
from ocl_edge.bundle.onnx_check import check_graph
from ocl_edge.bundle.outputs import part_file, read_manifests
from ocl_edge.bundle.signature import check_signature, sign_manifest
from ocl_edge.errors import BundleError
from ocl_edge.given_files import read_given, reason_of
from ocl_edge.method.norms import NormsAsTrained
from ocl_edge.network.form_names import WEIGHT_FILE
from ocl_edge.network.tail import Tail
from ocl_edge.tensor_files import check_tensor, read_tensors
from ocl_edge.tensors import Tensor, require_torch

if TYPE_CHECKING:
    from torch import fx

    from ocl_edge.network.programs import Shape


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    Attributes:
        path: its directory.
        manifest: the validated manifest.
        identity: sha256 of manifest.json, which covers every file through their hashes; and ``#output``.
        output: name of the output that this is, of a bundle with several; else empty.
    """

    path: Path
    manifest: Manifest
    identity: str
    output: str = ""

    @property
    def named(self) -> str:
        """As a command line names it: its directory, and ``#output``."""
        return f"{self.path}#{self.output}" if self.output else str(self.path)

    @property
    def manifest_sha256(self) -> str:
        """Identity of the whole bundle, whichever output this is."""
        return self.identity.partition("#")[0]

    @property
    def whole(self) -> Bundle:
        """Named as a whole, whichever output this is."""
        return replace(self, identity=self.manifest_sha256, output="")

    @property
    def network(self) -> str:
        """Identity of the bundle that a fleet began with; of every other bundle its own."""
        return self.manifest.fleet.network if self.manifest.fleet else self.identity

    @classmethod
    def open(cls, path: Path | str, verify: bool = True, signed_by: Path | None = None) -> Bundle:
        """Read a bundle and verify the hash of every file.

        Args:
            path: its directory; ``DIRECTORY#NAME`` is one output of a bundle that has several.
            verify: compare every file with the manifest.
            signed_by: file of a public key: the manifest must be signed by its owner, which is checked before
                anything of it is believed.

        Raises:
            SignatureError: it is not; see `ocl_edge.bundle.signature`.
            BundleError: missing, incomplete, changed (the file is named), or of a newer schema; or it has
                several outputs, and none of them is named.
        """
        bundles = cls.open_outputs(path, verify, signed_by)
        if len(bundles) > 1:
            named = " or ".join(f"{path}#{name}" for name in bundles)
            raise BundleError(
                f"{path} has the outputs {', '.join(bundles)}, and only one can be taken here: {named}"
            )
        return next(iter(bundles.values()))

    @classmethod
    def open_outputs(
        cls, path: Path | str, verify: bool = True, signed_by: Path | None = None
    ) -> dict[str, Bundle]:
        """As `open`, every output by its name, which is empty where the bundle has one.

        They have everything in common but heads, tails and classes.
        """
        path, wanted = _directory_and_output(Path(path))
        try:
            raw = read_given(path / MANIFEST, MOST_MANIFEST_BYTES)
        except (OSError, ValueError) as error:
            if not is_bundle(path):
                raise BundleError(instead_of_bundle(path)) from error
            reason = reason_of(error) if isinstance(error, OSError) else error
            raise BundleError(f"{path / MANIFEST} cannot be read: {reason}") from error
        if signed_by is not None:
            check_signature(raw, path, signed_by)
        digest = hashlib.sha256(raw).hexdigest()
        bundles = {
            name: cls(path, each, f"{digest}#{name}" if name else digest, name)
            for name, each in read_manifests(raw, path).items()
        }
        if verify:
            next(iter(bundles.values())).verify()
        if wanted and wanted not in bundles:
            known = ", ".join(bundles) if "" not in bundles else "one, without a name"
            raise BundleError(f"{path} has no output {wanted!r}; it has: {known}")
        return {wanted: bundles[wanted]} if wanted else bundles

    def sign(self, key: Path) -> Path:
        """Sign the manifest, as it was read; see `sign_manifest`.

        Returns:
            The file of the signature.
        """
        raw = read_given(self.path / MANIFEST, MOST_MANIFEST_BYTES)
        if hashlib.sha256(raw).hexdigest() != self.manifest_sha256:
            raise BundleError(f"{self.path / MANIFEST} changed while it was being signed")
        return sign_manifest(raw, self.path, key)

    def verify(self) -> None:
        """Compare size and sha256 of every file with the manifest.

        Raises:
            BundleError: naming the first file that is missing or changed.
        """
        for name, spec in self.manifest.files.items():
            file = self.file(name)
            try:
                unchanged = file.stat().st_size == spec.bytes and file_sha256(file) == spec.sha256
            except OSError as error:
                raise BundleError(f"{self.path}: {name} cannot be read: {reason_of(error)}") from error
            if not unchanged:
                raise BundleError(
                    f"{self.path}: {name} was changed after export (its sha256 is not the manifest's); "
                    "export the bundle again"
                )

    def file(self, name: str) -> Path:
        """Path of a file that the manifest lists.

        A file may be a link where it leads into the directory of the real manifest: so the links of
        model hubs, Bazel and Kubernetes are followed, whose manifest is a link itself. A link to
        anywhere else is refused.

        Raises:
            BundleError: the manifest does not list it, it is missing, no file, or a link to the outside.
        """
        if name not in self.manifest.files:
            raise BundleError(
                f"{self.path} holds no {name}; it lists: {', '.join(sorted(self.manifest.files))}"
            )
        file = self.path / name
        try:
            mode = file.lstat().st_mode
            if stat.S_ISLNK(mode):
                check_link(self.path, name)
                mode = file.stat().st_mode
        except OSError as error:
            raise BundleError(
                f"{self.path}: {name} is missing ({reason_of(error)}); export the bundle again"
            ) from error
        if not stat.S_ISREG(mode):
            raise BundleError(f"{self.path}: {name} is no regular file; export the bundle again")
        return file

    def graph_file(self, graph: str) -> Path:
        """Path of the ONNX file of a form or head graph, which reaches nothing outside of the bundle.

        The files that it may name lie beside it, and none of them is a link that leads elsewhere: libraries
        of today refuse those.

        Raises:
            BundleError: as `file`; or the graph names other files, operators of other domains, or loops; or
                a bundle of links cannot be copied to the user's cache directory.
        """
        name = self.manifest.graphs[graph].file
        check_graph(self.file(name), self.manifest.files.keys())
        return without_links(self.path, self.identity, self.manifest.files) / name

    def require_head_graphs(self) -> HeadGraphs:
        """The head graphs.

        Raises:
            BundleError: there are none; with the reason and what to do.
        """
        if self.manifest.head_graphs is None:
            raise BundleError(
                f"{self.named} has no head graphs ({self.manifest.no_head_graphs}); --head torch needs none"
            )
        return self.manifest.head_graphs


def load_backbone(bundle: Bundle) -> fx.GraphModule:
    """The plain backbone: image float32 [N, 3, H, W] -> features.

    Raises:
        BundleError: the program is damaged or does not fit; see `read_program`.
    """
    frame = bundle.manifest.input
    backbone = _program(
        bundle, "backbone.json", [(frame.channels, frame.height, frame.width)], bundle.manifest.features
    )
    from ocl_edge.network.batch_norms import batch_norms, keep_as_norms

    if len(batch_norms(backbone)) > len(bundle.manifest.norms):
        keep_as_norms(backbone, {norm.name for norm in bundle.manifest.norms})
    return backbone


def load_head(bundle: Bundle) -> fx.GraphModule:
    """The head with its trained weights: features -> logits at the network's own resolution.

    Raises:
        BundleError: the program is damaged or does not fit; see `read_program`.
    """
    manifest = bundle.manifest
    return _program(bundle, part_file("head.json", bundle.output), manifest.head_features, [manifest.logits])


def load_head_weights(bundle: Bundle) -> dict[str, Tensor]:
    """The trained weights of a head that has graphs, by their names in the head, in the order of restoration.

    Raises:
        BundleError: it has no graphs; or a weight is missing, of another shape or dtype, or not finite.
    """
    graphs = bundle.require_head_graphs()
    shapes = {tensor.name: tensor.shape for tensor in graphs.graphs["head"].inputs}
    try:
        weights = read_tensors(bundle.file(WEIGHT_FILE), list(graphs.parameters.values()))
        for role, name in graphs.parameters.items():
            check_tensor(name, weights.get(name), shapes.get(role, ()))
        count = sum(weight.numel() for weight in weights.values())
        if count != bundle.manifest.head_parameters:
            raise ValueError(f"{count} weights, expected {bundle.manifest.head_parameters}")
    except ValueError as error:
        raise BundleError(f"{bundle.path}: the head does not fit the manifest: {error}") from error
    return weights


def load_tail(bundle: Bundle) -> Tail:
    """From logits to masks.

    Raises:
        BundleError: see `load_head`.
    """
    captured = None
    tail = part_file("tail.json", bundle.output)
    if tail in bundle.manifest.files:
        captured = _program(bundle, tail, [bundle.manifest.logits], [None])
    of_probabilities = bundle.manifest.output.values == "probabilities"
    return Tail(bundle.manifest.align_corners, captured, of_probabilities)


def load_norms(bundle: Bundle) -> NormsAsTrained:
    """What training left in the norms of the backbone.

    Raises:
        BundleError: a tensor is missing, left over, of another shape or dtype, or makes no sense.
    """
    file = bundle.file("norms.safetensors")
    expected = [field.name for field in fields(NormsAsTrained)]
    try:
        tensors = read_tensors(file)
        if set(tensors) != set(expected):
            raise ValueError(f"tensors {', '.join(sorted(tensors))}, expected {', '.join(expected)}")
        for name, tensor in tensors.items():
            check_tensor(name, tensor, (bundle.manifest.norm_channels,))
        if bool((tensors["var"] < 0).any()) or bool((tensors["var"] + tensors["eps"] <= 0).any()):
            raise ValueError("var and eps: expected variances from 0, above 0 with eps added")
    except ValueError as error:
        raise BundleError(f"{bundle.path}: {file.name} does not fit the manifest: {error}") from error
    return NormsAsTrained(**tensors)


def _directory_and_output(path: Path) -> tuple[Path, str]:
    directory, hash_sign, output = str(path).rpartition("#")
    return (Path(directory), output) if hash_sign and not path.exists() else (path, "")


def _program(
    bundle: Bundle, name: str, inputs: Sequence[Shape], outputs: Sequence[Shape | None]
) -> fx.GraphModule:
    require_torch(f"{name} of a bundle")
    from ocl_edge.network.programs import read_program

    return read_program(bundle.file(name), bundle.file(WEIGHT_FILE), inputs, outputs)
