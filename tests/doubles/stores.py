"""Bundles as others keep them: every file a link into a store."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

STORES = ("hub", "mounted", "built")


def as_links(bundle: Path, store: str) -> Path:
    """Move a bundle's files into a store beside it, and give the directory of links that is left.

    Args:
        bundle: its directory.
        store: ``hub``: files are named by their content; ``mounted``: a link to a dated directory, as
            Kubernetes mounts volumes; ``built``: absolute links to files of the same names, as Bazel's.
    """
    blobs, links = bundle.with_name("blobs"), bundle.with_name("snapshots") / "main"
    links.mkdir(parents=True)
    bundle.rename(blobs)
    if store == "mounted":
        os.symlink("../../blobs", links / "..data")
    for file in [file for file in blobs.iterdir() if file.is_file()]:
        if store == "hub":
            named = hashlib.sha256(file.read_bytes()).hexdigest()
            file.rename(blobs / named)
            os.symlink(f"../../blobs/{named}", links / file.name)
        else:
            target = f"..data/{file.name}" if store == "mounted" else file.absolute()
            os.symlink(target, links / file.name)
    return links
