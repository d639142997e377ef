from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge.bundle.writing import new_bundle_directory
from ocl_edge.errors import BundleError, UsageError


@pytest.fixture
def copied(small_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_bundle.path, tmp_path / "bundle"))


def rewrite_manifest(bundle: Path, **changes: object) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text("utf-8"))
    (bundle / "manifest.json").write_text(json.dumps({**manifest, **changes}))


@pytest.mark.parametrize(
    "name",
    [
        "backbone.plain.onnx",
        "backbone.json",
        "weights.safetensors",
        "head.json",
        "norms.safetensors",
    ],
)
def test_a_changed_byte_is_refused_by_the_name_of_its_file(copied: Path, name: str) -> None:
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} was changed"):
        Bundle.open(copied)


def test_a_missing_file_is_named(copied: Path) -> None:
    (copied / "head.json").unlink()
    with pytest.raises(BundleError, match=r"head\.json is missing"):
        Bundle.open(copied)


def test_a_newer_schema_asks_for_an_upgrade(copied: Path) -> None:
    rewrite_manifest(copied, schema_version=6)
    with pytest.raises(BundleError, match=r"schema 6, this ocl-edge reads 4 .*: upgrade ocl-edge"):
        Bundle.open(copied)


def test_a_damaged_manifest_names_the_field(copied: Path) -> None:
    rewrite_manifest(copied, stat_rows=0)
    with pytest.raises(BundleError, match="stat_rows"):
        Bundle.open(copied)
    rewrite_manifest(copied, stat_rows=1, surprise=True)
    with pytest.raises(BundleError, match="surprise"):
        Bundle.open(copied)
    (copied / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match="damaged"):
        Bundle.open(copied)


def test_no_bundle_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="ocl-edge export CHECKPOINT"):
        Bundle.open(tmp_path / "nothing")


def test_the_identity_covers_the_manifest(small_bundle: Bundle, copied: Path) -> None:
    assert Bundle.open(copied).identity == small_bundle.identity
    rewrite_manifest(copied, head_module="other")
    assert Bundle.open(copied).identity != small_bundle.identity


def test_a_failing_block_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with new_bundle_directory(tmp_path / "out", force=False) as staging:
            (staging / "half").write_text("written")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_directory_is_kept_unless_forced(copied: Path) -> None:
    before = {f.name: f.read_bytes() for f in copied.iterdir()}
    with pytest.raises(UsageError, match="--force"), new_bundle_directory(copied, force=False):
        pass
    assert {f.name: f.read_bytes() for f in copied.iterdir()} == before
    with new_bundle_directory(copied, force=True) as staging:
        (staging / "manifest.json").write_text("new")
    assert [f.name for f in copied.iterdir()] == ["manifest.json"]
    assert [f.name for f in copied.parent.iterdir()] == [copied.name]


def test_force_replaces_nothing_but_bundles(tmp_path: Path) -> None:
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    with pytest.raises(UsageError, match="not a bundle"), new_bundle_directory(precious, force=True):
        pass
    assert (precious / "thesis.txt").read_text("utf-8") == "years"
