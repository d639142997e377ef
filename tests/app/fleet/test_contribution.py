"""What a vehicle sends: two kinds of tensors and a few numbers. Neither side lets anything else pass."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save

from ocl_edge.errors import FleetError
from ocl_edge_app.fleet.contribution import Border, Packed
from tests.doubles.fleets import Learned

Change = Callable[[dict[str, torch.Tensor]], object]


def test_exactly_this_is_sent(border: Border, learned: Learned) -> None:
    packed = border.pack(learned(0))
    sent = {name: (tuple(t.shape), t.dtype) for name, t in load(packed.tensors).items()}
    assert sent == {
        "statistics": ((2, 46), torch.float32),
        "head.classifier.weight": ((5, 6, 1, 1), torch.float32),
        "head.classifier.bias": ((5,), torch.float32),
    }
    facts = json.loads(packed.facts)
    assert facts.keys() == {"network", "version", "summary"}
    assert facts["summary"].keys() == {"frames", "updates", "undone", "opening", "distance"}
    numbers = 2 * 46 + 5 * 6 + 5
    assert 4 * numbers < packed.bytes < 4 * numbers + 1024


def test_what_was_packed_comes_back(border: Border, learned: Learned) -> None:
    before = learned(3, updates=17)
    after = border.unpack(border.pack(before))
    assert after.facts == before.facts
    assert torch.equal(after.learned.statistics, before.learned.statistics)
    for name, weight in before.learned.weights.items():
        assert torch.equal(after.learned.weights[name], weight)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.update({"last_adapted": torch.zeros(48, 64, 3)}), "bytes of tensors|no part"),
        (lambda t: t.update({"image": torch.zeros(1)}), "image is no part of a contribution"),
        (lambda t: t.update({"head.other": torch.zeros(1)}), "a head of"),
        (lambda t: t.pop("statistics"), "statistics is missing"),
        (lambda t: t.pop("head.classifier.bias"), "a head of"),
        (lambda t: t.update({"statistics": torch.zeros(2, 45)}), "expected torch.float32"),
        (lambda t: t.update({"statistics": -torch.ones(2, 46)}), "variances from 0"),
        (lambda t: t.update({"head.classifier.bias": torch.zeros(5).half()}), "expected torch.float32"),
        (lambda t: t.update({"head.classifier.bias": torch.full((5,), torch.nan)}), "finite"),
        (lambda t: t.update({"head.classifier.bias": torch.full((5,), torch.inf)}), "finite"),
        (lambda t: t.update({"head.classifier.bias": torch.zeros(5, 1)}), "expected torch.float32"),
    ],
)
def test_other_tensors_are_refused_on_both_sides(
    border: Border, learned: Learned, change: Change, words: str
) -> None:
    packed = border.pack(learned(0))
    tensors = load(packed.tensors)
    change(tensors)
    with pytest.raises(FleetError, match=words):
        border.unpack(replace(packed, tensors=save(tensors)))


@pytest.mark.parametrize("left", [0, 7, 8, 100, -1])
def test_a_truncated_upload_is_refused(border: Border, learned: Learned, left: int) -> None:
    packed = border.pack(learned(0))
    with pytest.raises(FleetError, match="damaged"):
        border.unpack(replace(packed, tensors=packed.tensors[:left]))


@pytest.mark.parametrize(
    "content", [b"\xff" * 8 + b"{}", b"\0" * 64, pickle.dumps({"a": 1}), b"PK\x03\x04" + b"x" * 40]
)
def test_what_is_no_safetensors_is_refused(border: Border, learned: Learned, content: bytes) -> None:
    with pytest.raises(FleetError, match="damaged"):
        border.unpack(replace(border.pack(learned(0)), tensors=content))


def test_more_bytes_than_a_contribution_has_are_not_even_read(border: Border, learned: Learned) -> None:
    packed = border.pack(learned(0))
    padded = packed.tensors + bytes(border.most_bytes)
    with pytest.raises(FleetError, match="expected at most"):
        border.unpack(replace(packed, tensors=padded))
    with pytest.raises(FleetError, match="letters of facts"):
        border.unpack(replace(packed, facts=packed.facts + " " * 4000))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ("{", "no JSON"),
        ("[]", "facts"),
        ("{}", "network"),
        ("[" * 500, "no JSON"),
        (json.dumps({"network": "0" * 64, "version": 0, "summary": {}}), "another network: 0000000000000000"),
        (json.dumps({"network": "x", "version": 0, "summary": {}}), "network"),
    ],
)
def test_other_facts_are_refused(border: Border, learned: Learned, facts: str, words: str) -> None:
    with pytest.raises(FleetError, match=words):
        border.unpack(Packed(facts, border.pack(learned(0)).tensors))


@pytest.mark.parametrize(
    "summary",
    [
        {"updates": -1},
        {"updates": 1 << 60},
        {"updates": "9"},
        {"opening": 2.0},
        {"distance": -1.0},
        {"gps": 1},
    ],
)
def test_other_summaries_are_refused(border: Border, learned: Learned, summary: dict[str, object]) -> None:
    facts = json.dumps({"network": border.network, "version": 0, "summary": summary})
    with pytest.raises(FleetError, match="summary"):
        border.unpack(Packed(facts, border.pack(learned(0)).tensors))
