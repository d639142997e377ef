"""Versions in a directory: only newer, signed ones of the same network get in; each step can be undone."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ocl_edge.bundle.fleet import Release, load_fleet, new_release, trained_head
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BundleError, FleetError, SignatureError, UsageError
from ocl_edge.method.fleet_heads import FleetHeads
from ocl_edge_app.fleet.publishing import sign_release
from ocl_edge_app.fleet.versions import Versions
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from tests.doubles.fleets import Keys, Learned, keys_in, release_of
from tests.doubles.images import random_image


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return keys_in(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def versions(tmp_path: Path, small_bundle: Bundle, keys: Keys) -> Versions:
    return Versions.begin(tmp_path / "fleet", small_bundle, keys.public)


def test_a_release_is_taken_and_runs_from_the_link(
    versions: Versions, small_bundle: Bundle, learned: Learned, keys: Keys
) -> None:
    added = versions.add(release_of(small_bundle, learned, 1, keys))
    assert versions.current().identity == small_bundle.identity
    versions.take(1)
    running = Bundle.open(versions.directory / "current", signed_by=keys.public)
    assert running.identity == added.identity != small_bundle.identity
    assert running.network == small_bundle.identity
    fleet = load_fleet(running, trained_head(running))
    assert fleet is not None
    for name, weight in learned(1).learned.weights.items():
        assert torch.equal(fleet.heads[0].weights[name], weight)


def test_the_large_files_are_there_once(
    versions: Versions, small_bundle: Bundle, learned: Learned, keys: Keys
) -> None:
    added = versions.add(release_of(small_bundle, learned, 1, keys))
    new = {
        file.name for file in added.path.iterdir() if not (small_bundle.path / file.name).exists()
        or not file.samefile(small_bundle.path / file.name)
    }  # fmt: skip
    assert new == {"manifest.json", "manifest.json.sig", added.manifest.fleet.file}  # type: ignore[union-attr]


def test_rolling_back_takes_the_one_before_and_never_lowers_the_floor(
    versions: Versions, small_bundle: Bundle, learned: Learned, keys: Keys
) -> None:
    for version in (1, 4):
        versions.add(release_of(small_bundle, learned, version, keys))
        versions.take(version)
    assert versions.roll_back() == 1
    assert versions.current().manifest.fleet.version == 1  # type: ignore[union-attr]
    assert versions.newest == 4
    with pytest.raises(FleetError, match="4 was here before: an old release is not taken again"):
        versions.add(release_of(small_bundle, learned, 4, keys))
    assert versions.roll_back() == 0
    with pytest.raises(UsageError, match="none before"):
        versions.roll_back()


def test_an_older_release_is_refused(
    versions: Versions, small_bundle: Bundle, learned: Learned, keys: Keys
) -> None:
    versions.add(release_of(small_bundle, learned, 7, keys))
    with pytest.raises(FleetError, match="version 3 came, and 7 was here before"):
        versions.add(release_of(small_bundle, learned, 3, keys))


def test_a_release_that_is_not_signed_or_by_another_is_refused(
    versions: Versions, small_bundle: Bundle, learned: Learned, keys: Keys, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    signed = release_of(small_bundle, learned, 1, keys)
    strange = release_of(small_bundle, learned, 1, keys_in(tmp_path / "other"))
    for signature in (b"", signed.signature[:-1], strange.signature, bytes(64)):
        with pytest.raises(SignatureError, match="was not signed with the key"):
            versions.add(replace(signed, signature=signature))
    assert versions.newest == 0


def test_a_higher_number_on_an_old_release_is_no_longer_signed(
    versions: Versions, small_bundle: Bundle, learned: Learned, keys: Keys
) -> None:
    release = release_of(small_bundle, learned, 1, keys)
    forged = release.manifest.replace(b'"version": 1,', b'"version": 9,')
    assert forged != release.manifest
    with pytest.raises(SignatureError):
        versions.add(replace(release, manifest=forged))


def test_tensors_that_the_manifest_does_not_name_are_refused(
    versions: Versions, small_bundle: Bundle, learned: Learned, keys: Keys
) -> None:
    release = release_of(small_bundle, learned, 1, keys)
    for tensors in (release.tensors[:-1], release.tensors[:-1] + b"x", b""):
        with pytest.raises(BundleError, match="was changed after export"):
            versions.add(replace(release, tensors=tensors))
    assert [place.name for place in (versions.directory / "versions").iterdir()] == ["0" * 10]


def resigned(release: Release, keys: Keys, change: dict[str, object]) -> Release:
    content = json.loads(release.manifest) | change
    return sign_release(replace(release, manifest=json.dumps(content).encode()), keys.private)


def test_a_release_of_another_network_is_refused_by_name(
    versions: Versions, small_bundle: Bundle, sampled_bundle: Bundle, learned: Learned, keys: Keys
) -> None:
    with pytest.raises(FleetError, match=f"another network came: {sampled_bundle.identity[:16]}"):
        versions.add(release_of(sampled_bundle, learned, 1, keys))
    with pytest.raises(FleetError, match="no fleet's"):
        versions.add(
            sign_release(Release((small_bundle.path / "manifest.json").read_bytes(), b""), keys.private)
        )


def test_even_the_owner_of_the_key_changes_nothing_else(
    versions: Versions, small_bundle: Bundle, learned: Learned, keys: Keys
) -> None:
    release = release_of(small_bundle, learned, 1, keys)
    for change in ({"checkpoint": "other.pth"}, {"adaptation": {"lr": 1e6}}, {"stat_rows": 3}):
        with pytest.raises(FleetError, match="changes more of the bundle"):
            versions.add(resigned(release, keys, change))


def test_a_head_of_another_shape_is_refused(
    versions: Versions, small_bundle: Bundle, learned: Learned, keys: Keys
) -> None:
    head = learned(1).learned
    for weights in (
        {"classifier.weight": head.weights["classifier.weight"]},
        {**head.weights, "classifier.bias": torch.zeros(4)},
        {**head.weights, "classifier.bias": torch.full((5,), torch.nan)},
    ):
        wrong = FleetHeads((replace(head, weights=weights),))
        with pytest.raises(BundleError, match="does not fit"):
            versions.add(sign_release(new_release(small_bundle, 1, wrong, (3,)), keys.private))
    assert versions.newest == 0


def test_a_directory_that_began_with_another_bundle_is_refused(
    versions: Versions, small_bundle: Bundle, sampled_bundle: Bundle, keys: Keys, tmp_path: Path
) -> None:
    assert Versions.begin(versions.directory, small_bundle, keys.public).newest == 0
    with pytest.raises(UsageError, match="choose another directory"):
        Versions.begin(versions.directory, sampled_bundle, keys.public)
    with pytest.raises(UsageError, match="holds no fleet's bundle"):
        Versions(tmp_path / "nothing", keys.public)


def test_a_link_that_was_moved_elsewhere_leads_nowhere(versions: Versions) -> None:
    (versions.directory / "current").unlink()
    os.symlink("/etc", versions.directory / "current")
    with pytest.raises(BundleError, match="leads to etc, expected a version"):
        versions.current()


def test_the_state_of_a_vehicle_outlives_a_new_version(
    versions: Versions, small_bundle: Bundle, learned: Learned, keys: Keys
) -> None:
    added = versions.add(release_of(small_bundle, learned, 1, keys))
    realtime = RealtimeOptions(statistics_limit=1e9)
    options = SessionOptions(threads=1, opening=1.0)
    with (
        open_session(small_bundle, options, realtime) as before,
        open_session(added, options, realtime) as after,
    ):
        before.step(random_image(0))
        state = before.export_state()
        after.import_state(*state)
        assert after.weights.weights_sha256() == before.weights.weights_sha256()
        assert after.setup.what_decides() != before.setup.what_decides()
