"""Changes to bytes and to JSON, as whoever means harm would make them; the same for the same seed."""

from __future__ import annotations

import copy
import random
from typing import Any

EDGES = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0xFFFFFFFF,
    1 << 40,
    (1 << 63) - 1,
    (1 << 64) - 1,
)
LEAVES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 1e308, -1e-308, 0.5, "", "x", "../x", "/etc/passwd",
    "a\0b", "\x1b[2J", "\u202e", "\udcff", "9" * 400, "x" * 100_000, [], {}, [[]], [None], {"": 1},
    [0] * 1000, "NaN", "3x",
)  # fmt: skip


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """One to six changes: bits, bytes, numbers of the edges, blocks moved, cut, doubled or filled."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        if not changed:
            changed = bytearray(b"\0")
        at, length = rng.randrange(len(changed)), rng.choice((1, 2, 4, 8, 16, 64, 512))
        kind = rng.randrange(8)
        if kind == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at] = rng.randrange(256)
        elif kind == 2:
            size = rng.choice((1, 2, 4, 8))
            number = (rng.choice(EDGES) % (1 << 8 * size)).to_bytes(size, rng.choice(("little", "big")))
            changed[at : at + size] = number
        elif kind == 3:
            del changed[at : at + length]
        elif kind == 4:
            changed[at:at] = changed[at : at + length]
        elif kind == 5:
            to = rng.randrange(len(changed))
            changed[to : to + length] = changed[at : at + length]
        elif kind == 6:
            changed[at : at + length] = bytes([rng.choice((0, 0xFF, rng.randrange(256)))]) * length
        else:
            del changed[at:]
    return bytes(changed)


def mutate_json(content: Any, rng: random.Random) -> Any:
    """A copy with one to three values replaced, left out, renamed or doubled."""
    changed = copy.deepcopy(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        parents = list(_containers(changed))
        if not parents:
            return rng.choice(LEAVES)
        parent = rng.choice(parents)
        if isinstance(parent, dict):
            _change_object(parent, rng)
        else:
            _change_list(parent, rng)
    return changed


def _change_object(parent: dict[str, Any], rng: random.Random) -> None:
    key = rng.choice(list(parent) or [""])
    kind = rng.randrange(5)
    if kind == 0:
        parent.pop(key, None)
    elif kind == 1:
        parent[str(rng.choice(LEAVES))] = parent.pop(key, None)
    else:
        parent[key] = copy.deepcopy(rng.choice(LEAVES))


def _change_list(parent: list[Any], rng: random.Random) -> None:
    kind = rng.randrange(4)
    if kind == 0 or not parent:
        parent.append(copy.deepcopy(rng.choice(LEAVES)))
    elif kind == 1:
        parent.pop(rng.randrange(len(parent)))
    elif kind == 2:
        parent.append(copy.deepcopy(parent[rng.randrange(len(parent))]))
    else:
        parent[rng.randrange(len(parent))] = copy.deepcopy(rng.choice(LEAVES))


def _containers(content: Any) -> Any:
    if isinstance(content, dict | list):
        yield content
        for value in content.values() if isinstance(content, dict) else content:
            yield from _containers(value)
