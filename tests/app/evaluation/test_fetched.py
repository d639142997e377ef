"""Frames by URL: a copy of what is read, and of nothing that lies outside of its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import SourceError, UsageError
from ocl_edge_app.evaluation import fetched
from ocl_edge_app.evaluation.fetched import Mirror
from ocl_edge_app.evaluation.what_is_scored import Named, find_pairs, find_what_is_scored


@pytest.fixture
def place(tmp_path: Path, frames: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """images/ and labels/ that a URL names, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "place"
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
    for file in frames.iterdir():
        (root / "images" / file.name).write_bytes(file.read_bytes())
        Image.fromarray(np.zeros((40, 50), np.uint8)).save(root / "labels" / file.name)
    return root


def named(place: Path, limit: int | None = None) -> Named:
    return Named(frames=f"file://{place}/images", labels=f"file://{place}/labels/", limit=limit)


def test_only_what_is_read_is_copied_and_once(place: Path, small_bundle: Bundle) -> None:
    frames, _, _ = find_what_is_scored(named(place, limit=2), small_bundle.manifest)
    for image, label in frames.pairs:
        assert image.read_bytes() == (place / "images" / image.name).read_bytes()
        assert label.read_bytes() == (place / "labels" / label.name).read_bytes()
        assert place not in image.parents
    copies = list(frames.pairs[0][0].parent.iterdir())
    assert len(copies) == 6
    assert sum(file.stat().st_size > 0 for file in copies) == 2
    written = frames.pairs[0][0].stat().st_mtime_ns
    assert find_pairs(named(place))[:2] == frames.pairs
    assert frames.pairs[0][0].stat().st_mtime_ns == written
    assert all(file.stat().st_size for pair in find_pairs(named(place)) for file in pair)


def test_what_changed_is_fetched_again(place: Path) -> None:
    before = find_pairs(named(place))[0][0]
    Image.fromarray(np.ones((40, 50, 3), np.uint8)).save(place / "images" / before.name)
    after = find_pairs(named(place))[0][0]
    assert after != before
    assert after.read_bytes() == (place / "images" / before.name).read_bytes()


def test_a_data_set_by_url_keeps_its_split(place: Path) -> None:
    (place / "images").rename(place / "val")
    (place / "labels").rename(place / "valannot")
    pairs = find_pairs(Named(dataset=f"camvid:file://{place}:val"))
    assert [image.parent.name for image, _ in pairs] == ["val"] * 6
    assert all(label.stat().st_size for _, label in pairs)


class Strange:
    """A file system that lists what it likes."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names

    def find(self, path: str, detail: bool) -> dict[str, Any]:
        return self.names

    def open(self, path: str, mode: str) -> Any:
        return fsspec.filesystem("file").open("/dev/zero", mode)


def strange(monkeypatch: pytest.MonkeyPatch, names: dict[str, Any]) -> None:
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda _url: (Strange(names), "bucket/set"))


@pytest.mark.parametrize(
    "name",
    [
        "bucket/set/../../.ssh/authorized_keys",
        "bucket/set//etc/passwd",
        "/etc/passwd",
        "bucket/other/a.png",
        "bucket/set/./a.png",
        "bucket/set/a\\b.png",
        "bucket/set/a\n.png",
        "bucket/set",
    ],
)
def test_a_listing_that_leads_out_of_its_place_is_refused(
    name: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange(monkeypatch, {"bucket/set/a.png": {"size": 3}, name: {"size": 3}})
    with pytest.raises(UsageError, match="no file inside of it: nothing is taken"):
        Mirror.of("s3://bucket/set")
    assert not list((tmp_path / "cache").rglob("*.png"))


def test_more_than_was_listed_is_not_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strange(monkeypatch, {"bucket/set/a.png": {"size": 3}, "bucket/set/b.png": {"size": None}})
    monkeypatch.setattr(fetched, "MOST_BYTES_OF_A_FILE", 5 << 20)
    mirror = Mirror.of("s3://bucket/set")
    for name, most in (("a.png", "3"), ("b.png", "5,242,880")):
        with pytest.raises(SourceError, match=f"{name} cannot be read: it has more than the {most} bytes"):
            mirror.fetch([mirror.root / name])
        assert (mirror.root / name).stat().st_size == 0
    assert sorted(file.name for file in mirror.root.iterdir()) == ["a.png", "b.png"]


def test_too_much_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetched, "MOST_BYTES", 100)
    with pytest.raises(UsageError, match="bytes are wanted, at most 100 are fetched"):
        find_pairs(named(place))
    monkeypatch.setattr(fetched, "MOST_FILES", 5)
    with pytest.raises(UsageError, match="lists 6 files, at most 5 are taken"):
        find_pairs(named(place))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("reference://x.json", "expected a path, or a URL of s3"),
        ("zip://a::file:///b.zip", "expected a path, or a URL of s3"),
        ("file:///there/is/none", "no such directory, or nothing in it"),
    ],
)
def test_other_urls_are_explained(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Mirror.of(url)


def test_passwords_are_not_shown() -> None:
    with pytest.raises(UsageError) as caught:
        Mirror.of("ftp://me:secret@host/x")
    assert "secret" not in str(caught.value)
