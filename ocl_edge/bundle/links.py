"""Bundles whose files are links into one store: caches of model hubs, Bazel, volumes of Kubernetes.

There the manifest is a link itself, which whoever mails a bundle of links cannot aim: so the store is the
directory in which the real manifest lies, and a link to anywhere else is refused.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from ocl_edge import durable
from ocl_edge.bundle.manifest import MANIFEST, file_sha256
from ocl_edge.bundle.manifest_parts import FileSpec
from ocl_edge.errors import BundleError, OutputError
from ocl_edge.given_files import open_given, reason_of
from ocl_edge.user_cache import user_cache


def check_link(bundle: Path, name: str) -> None:
    """Refuse a link that leads out of a bundle and out of the store in which its real manifest lies.

    Raises:
        BundleError: it does.
        OSError: it leads nowhere.
    """
    store = (bundle / MANIFEST).resolve(strict=True).parent
    place = (bundle / name).resolve(strict=True).parent
    if place not in (store, bundle.resolve(strict=True)):
        raise BundleError(
            f"{bundle}: {name} is a link to {place}, outside of the bundle; its files may lie in {store}. "
            "Copy it with its content: cp -rL"
        )


def without_links(bundle: Path, identity: str, files: Mapping[str, FileSpec]) -> Path:
    """A directory with a bundle's files under their own names, none of them a link that leads out of it.

    That is the bundle itself, or the store where the names are the same there. In a store that names files
    by their content it is a directory in the user's cache, of hard links where the file system allows them:
    so the memory that libraries map is shared as before.

    Args:
        bundle: its directory; `check_link` has passed every link.
        identity: of the bundle.
        files: that its manifest lists.

    Raises:
        BundleError: the user's cache directory cannot be written.
    """
    real = {name: (bundle / name).resolve() for name in files}
    if all(file.parent == bundle.resolve() for file in real.values()):
        return bundle
    store = next(iter(real.values())).parent
    if all(file == store / name for name, file in real.items()):
        return store
    place = user_cache() / "without-links" / identity[:24]
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, file in real.items():
            if not _holds(place / name, file, files[name]):
                _put(file, place / name)
    except (OSError, OutputError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else error
        raise BundleError(
            f"{bundle} holds links into a store, and no directory without them can be written to {place} "
            f"({reason}): set XDG_CACHE_HOME to a directory that can, or copy the bundle with cp -rL"
        ) from error
    return place


def _holds(copy: Path, file: Path, spec: FileSpec) -> bool:
    """Whether a file is there already: the same one, or one with the content of the manifest."""
    if copy.is_symlink() or not copy.exists():
        return False
    if copy.samefile(file):
        return True
    return copy.stat().st_size == spec.bytes and file_sha256(copy) == spec.sha256


def _put(file: Path, copy: Path) -> None:
    try:
        os.link(file, copy)
    except OSError:  # on another file system, of another user, or something else lies there
        with open_given(file) as source, durable.writing(copy) as target:
            shutil.copyfileobj(source, target)
