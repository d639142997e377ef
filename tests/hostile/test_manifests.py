"""Manifests that hypothesis makes up: any value at any place is one error, or makes no difference."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocl_edge.bundle.manifest import read_manifest
from ocl_edge.bundle.reading import Bundle, load_head_weights, load_norms
from ocl_edge.errors import BundleError

NUMBERS = st.integers() | st.floats() | st.sampled_from([2**31, 2**63, 10**30, -1, 0, 1e308])
TEXTS = st.text(max_size=20) | st.sampled_from(["../x", "/etc/passwd", "a\0", "\x1b[2J", "x" * 3000])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)


def places_of(content: Any, so_far: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(content, dict | list):
        items = content.items() if isinstance(content, dict) else enumerate(content)
        return [p for key, value in items for p in [(*so_far, key), *places_of(value, (*so_far, key))]]
    return []


@pytest.fixture(scope="module")
def copied(small_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(small_bundle.path, tmp_path_factory.mktemp("made-up") / "bundle"))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(data=st.data())
def test_any_value_at_any_place_is_one_error_or_harmless(
    small_bundle: Bundle, copied: Path, data: Any
) -> None:
    content = json.loads((small_bundle.path / "manifest.json").read_text("utf-8"))
    place = data.draw(st.sampled_from(places_of(content)))
    changed = copy.deepcopy(content)
    parent = changed
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = data.draw(VALUES)
    (copied / "manifest.json").write_text(json.dumps(changed))
    with contextlib.suppress(BundleError):
        bundle = Bundle.open(copied)
        load_norms(bundle)
        load_head_weights(bundle)
    for file in copied.parent.iterdir():
        assert file == copied


@settings(max_examples=300, deadline=None, derandomize=True)
@given(raw=st.binary(max_size=200) | VALUES.map(lambda v: json.dumps(v).encode()))
def test_any_text_is_one_error(raw: bytes) -> None:
    with pytest.raises(BundleError):
        read_manifest(raw, Path("bundle"))
