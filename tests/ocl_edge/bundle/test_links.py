"""Bundles whose files are links into a store: every library gets regular files, and memory stays shared."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BundleError
from ocl_edge.user_cache import user_cache
from ocl_edge_runtime.backends import open_backend
from tests.doubles.stores import STORES, as_links

WEIGHTS = "weights.safetensors"


@pytest.fixture
def copied(small_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Path(shutil.copytree(small_bundle.path, tmp_path / "bundle"))


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("backend", ["torch", "onnxruntime", "openvino"])
def test_every_backend_runs_a_bundle_of_links(
    small_bundle: Bundle, copied: Path, store: str, backend: str
) -> None:
    linked = Bundle.open(as_links(copied, store))
    frame = small_bundle.manifest.input
    image = {"image": torch.rand(1, 3, frame.height, frame.width, generator=torch.Generator().manual_seed(1))}
    straight = open_backend(small_bundle, backend, threads=1).backend
    through_links = open_backend(linked, backend, threads=1).backend
    expected = straight.infer("plain", image)["features_0"]
    assert through_links.infer("plain", image)["features_0"].equal(expected)
    straight.close()
    through_links.close()
    assert (user_cache() / "without-links").exists() == (store == "hub" and backend != "torch")


def test_a_bundle_without_links_is_used_where_it_is(copied: Path) -> None:
    assert Bundle.open(copied).graph_file("plain").parent == copied
    (copied / "moved").write_bytes((copied / WEIGHTS).read_bytes())
    (copied / WEIGHTS).unlink()
    os.symlink("moved", copied / WEIGHTS)
    assert Bundle.open(copied).graph_file("plain").parent == copied


def test_out_of_a_store_that_names_by_content_files_are_linked_hard(copied: Path) -> None:
    linked = Bundle.open(as_links(copied, "hub"))
    place = linked.graph_file("plain").parent
    assert place.is_relative_to(user_cache())
    assert not any(file.is_symlink() for file in place.iterdir())
    assert (place / WEIGHTS).samefile(linked.path / WEIGHTS)


def test_where_that_cannot_be_they_are_copied_and_a_changed_copy_is_replaced(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError("of another user")

    monkeypatch.setattr(os, "link", refused)
    linked = Bundle.open(as_links(copied, "hub"))
    copy = linked.graph_file("plain").parent / WEIGHTS
    expected = (linked.path / WEIGHTS).read_bytes()
    assert copy.read_bytes() == expected
    made_at = copy.stat().st_mtime_ns
    linked.graph_file("plain")
    assert copy.stat().st_mtime_ns == made_at
    copy.write_bytes(b"x" * len(expected))
    linked.graph_file("plain")
    assert copy.read_bytes() == expected
    copy.unlink()
    os.symlink("/etc/passwd", copy)
    linked.graph_file("plain")
    assert copy.read_bytes() == expected
    assert not copy.is_symlink()


def test_a_cache_that_cannot_be_written_is_named(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    linked = Bundle.open(as_links(copied, "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    with pytest.raises(BundleError, match=r"set XDG_CACHE_HOME to a directory that can, or .*cp -rL"):
        linked.graph_file("plain")
