"""Versions of a fleet's bundle in one directory, on the server and in every vehicle.

    versions/0000000000   the bundle that the fleet began with
    versions/0000000003   a later one: its own manifest, signature and tensors, hard links to all the rest
    current               link to the version that runs

A version is staged beside and renamed, and ``current`` is replaced in one step: whenever the power ends, what
runs is whole. No version is removed or goes back: `newest` is a floor for whatever comes.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from ocl_edge import durable
from ocl_edge.bundle.fleet import Release, load_fleet, trained_head, version_of, without_fleet
from ocl_edge.bundle.manifest import ENGINES, MANIFEST, read_manifest
from ocl_edge.bundle.reading import Bundle
from ocl_edge.bundle.signature import SIGNATURE, check_signature_of
from ocl_edge.bundle.writing import new_bundle_directory
from ocl_edge.errors import BundleError, FleetError, OutputError, UsageError

VERSIONS, CURRENT = "versions", "current"
DIGITS = 10


class Versions:
    """A directory of versions.

    Args:
        directory: that `begin` made.
        signed_by: file of the public key that signs the fleet's bundles; None: of the server, which signs.

    Raises:
        UsageError: it is none.
    """

    def __init__(self, directory: Path, signed_by: Path | None) -> None:
        self.directory = directory
        self.signed_by = signed_by
        if not (directory / CURRENT).is_symlink():
            raise UsageError(f"{directory} holds no fleet's bundle; begin with one: --bundle BUNDLE")

    @classmethod
    def begin(cls, directory: Path, bundle: Bundle, signed_by: Path | None) -> Versions:
        """Take a bundle as the first version; a directory that has begun with it stays as it is.

        Raises:
            UsageError: it has begun with another one.
            OutputError: it cannot be written.
        """
        if (directory / CURRENT).is_symlink():
            begun = cls(directory, signed_by)
            if begun.current().network != bundle.network:
                raise UsageError(
                    f"{directory} is of the bundle {begun.current().network[:16]}, {bundle.path} is "
                    f"{bundle.network[:16]}: choose another directory"
                )
            return begun
        try:
            (directory / VERSIONS).mkdir(parents=True, exist_ok=True)
            place = directory / VERSIONS / _name(version_of(bundle.manifest))
            if not place.exists():
                with new_bundle_directory(place, force=False) as staging:
                    _link_files(bundle, staging, [MANIFEST, *bundle.manifest.files])
                    if (bundle.path / SIGNATURE).is_file():
                        _link(bundle.path / SIGNATURE, staging / SIGNATURE)
            _point(directory, place.name)
        except OSError as error:
            raise OutputError(f"cannot begin the fleet's bundle in {directory}: {error.strerror}") from error
        return cls(directory, signed_by)

    def current(self) -> Bundle:
        """The version that runs, verified."""
        place = self.directory / VERSIONS / self._pointed()
        signed_by = self.signed_by if int(self._pointed()) else None
        return Bundle.open(place, signed_by=signed_by)

    def all(self) -> list[int]:
        """Versions that are there, taken or refused, from the oldest."""
        return sorted(
            int(place.name) for place in (self.directory / VERSIONS).iterdir() if place.name.isdigit()
        )

    @property
    def newest(self) -> int:
        """The highest version that was ever here."""
        return self.all()[-1]

    def add(self, release: Release) -> Bundle:
        """Check a release and put it beside the others; ``current`` stays.

        Raises:
            SignatureError: it is not signed by the owner of the key.
            FleetError: an older version, of another network, or it changes more than what the fleet learned.
            BundleError: it is damaged, or cannot be written.
        """
        base = self.current()
        if self.signed_by is not None:
            check_signature_of(release.manifest, release.signature, self.signed_by, "the release")
        manifest = read_manifest(release.manifest, Path("the release"))
        if manifest.fleet is None or manifest.fleet.network != base.network:
            named = manifest.fleet.network[:16] if manifest.fleet else "no fleet's"
            raise FleetError(f"a release of another network came: {named}, this is {base.network[:16]}")
        if manifest.fleet.version <= self.newest:
            raise FleetError(
                f"version {manifest.fleet.version} came, and {self.newest} was here before: an old release "
                "is not taken again"
            )
        if without_fleet(manifest) != without_fleet(base.manifest):
            raise FleetError("a release changes more of the bundle than what the fleet has learned")
        place = self.directory / VERSIONS / _name(manifest.fleet.version)
        with new_bundle_directory(place, force=False) as staging:
            _link_files(base, staging, without_fleet(base.manifest).files)
            durable.write_bytes(staging / MANIFEST, release.manifest)
            durable.write_bytes(staging / manifest.fleet.file, release.tensors)
            if release.signature:
                durable.write_bytes(staging / SIGNATURE, release.signature)
            staged = Bundle.open(staging, signed_by=self.signed_by)
            load_fleet(staged, trained_head(staged))
        return Bundle.open(place, signed_by=self.signed_by)

    def take(self, version: int) -> None:
        """From its next start on, a run of ``current`` runs this version.

        Raises:
            UsageError: it is not there.
        """
        if version not in self.all():
            raise UsageError(f"version {version} is not here; there are {', '.join(map(str, self.all()))}")
        _point(self.directory, _name(version))

    def roll_back(self) -> int:
        """Take the version before the one that runs; a later one comes only with a higher number.

        Returns:
            Which it is.

        Raises:
            UsageError: there is none before.
        """
        running = int(self._pointed())
        before = [version for version in self.all() if version < running]
        if not before:
            raise UsageError(f"{self.directory} runs version {running}, and there is none before it")
        self.take(before[-1])
        return before[-1]

    def _pointed(self) -> str:
        name = Path(os.readlink(self.directory / CURRENT)).name
        if not name.isdigit():
            raise BundleError(f"{self.directory / CURRENT} leads to {name}, expected a version")
        return name


def _name(version: int) -> str:
    return f"{version:0{DIGITS}d}"


def _link_files(bundle: Bundle, directory: Path, names: Iterable[str]) -> None:
    for name in names:
        file = bundle.path / name if name == MANIFEST else bundle.file(name)
        _link(file, directory / name)
    engines = bundle.path / ENGINES
    if engines.is_dir() and not engines.is_symlink():
        shutil.copytree(engines, directory / ENGINES, copy_function=lambda a, b: _link(Path(a), Path(b)))


def _link(file: Path, place: Path) -> None:
    """A hard link; a copy where the file system has none. What is written later is renamed into place."""
    try:
        os.link(file.resolve(), place)
    except OSError:
        shutil.copyfile(file, place)


def _point(directory: Path, name: str) -> None:
    link = directory / f".{CURRENT}.{secrets.token_hex(8)}"
    link.symlink_to(Path(VERSIONS) / name)
    link.replace(directory / CURRENT)
    durable.flush_to_disk(directory)
