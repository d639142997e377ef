"""What vehicles of a fleet have learned, made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from ocl_edge.bundle.fleet import Release, new_release
from ocl_edge.bundle.reading import Bundle
from ocl_edge.method.fleet_heads import FleetHead, FleetHeads
from ocl_edge_app.fleet.contribution import Border, Contribution, Facts, Summary
from ocl_edge_app.fleet.publishing import sign_release

Learned = Callable[..., Contribution]


class Keys(NamedTuple):
    private: Path
    public: Path


def keys_in(directory: Path) -> Keys:
    """A new pair, as OpenSSL writes it."""
    key = ed25519.Ed25519PrivateKey.generate()
    pem, public = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    files = Keys(directory / "key.pem", directory / "key.pub")
    unlocked = serialization.NoEncryption()
    files.private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, unlocked))
    files.public.write_bytes(key.public_key().public_bytes(pem, public))
    return files


def release_of(bundle: Bundle, learned: Learned, version: int, keys: Keys) -> Release:
    """A signed version with one head: what the vehicle of that number learned."""
    heads = FleetHeads((learned(version).learned,))
    return sign_release(new_release(bundle, version, heads, (3,)), keys.private)


def learned_by(border: Border) -> Learned:
    """Contributions by seed, weather and number of updates."""

    def make(seed: int, weather: int = 0, updates: int = 50) -> Contribution:
        facts = Facts(network=border.network, version=0, summary=Summary(frames=60, updates=updates))
        return Contribution(facts, head_of(border, seed, weather))

    return make


def head_of(border: Border, seed: int, weather: int) -> FleetHead:
    """A twentieth of the way in the direction of the weather, and a little of the vehicle's own."""
    size = sum(float(w.square().sum()) for w in border.trained.values()) ** 0.5
    weights = {}
    for name, trained in border.trained.items():
        count = trained.numel()
        towards = torch.randn(count, generator=torch.Generator().manual_seed(1000 + weather))
        own = torch.randn(count, generator=torch.Generator().manual_seed(seed))
        step = (towards + 0.2 * own).reshape(trained.shape) / count**0.5
        weights[name] = trained + 0.05 * size * step
    channels = border.manifest.norm_channels
    noise = 0.02 * torch.randn(channels, generator=torch.Generator().manual_seed(seed))
    return FleetHead(weights, torch.stack((weather + noise, torch.full((channels,), 1.0 + weather))))
