"""How the norms of a session follow its frames, as its bundle and options say."""

from __future__ import annotations

from ocl_edge.bundle.home import load_head_input, load_mixing
from ocl_edge.bundle.manifest import Manifest
from ocl_edge.bundle.reading import load_norms
from ocl_edge.method.head_input import HeadInput
from ocl_edge.method.home import (
    DiscsDistances,
    HomeDistances,
    SensingNorms,
    StatisticsLimits,
    distances_of_all,
)
from ocl_edge.method.mixing import Mixing
from ocl_edge.method.norms import JUMP
from ocl_edge.method.opening import FixedOpening, FollowingOpening
from ocl_edge.tensors import Tensor
from ocl_edge_runtime.clock import Clock
from ocl_edge_runtime.session.moved_input import MovedInput
from ocl_edge_runtime.session.norm_policy import MeasuredNorms, NormPolicy
from ocl_edge_runtime.session.norm_vectors import NormVectors
from ocl_edge_runtime.session.openness import Openness
from ocl_edge_runtime.session.options import RealtimeOptions
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.session.setup import Setup


def norms_on_every_frame(setup: Setup) -> NormPolicy:
    head_input = load_head_input(setup.bundle)
    if head_input is not None:
        return MovedInput(_openness(setup, head_input), head_input, "measured")
    return MeasuredNorms(_openness(setup))


def norms_along_the_stream(
    setup: Setup, realtime: RealtimeOptions, clock: Clock, lead: Session | None
) -> tuple[NormPolicy, Openness]:
    """Those of the session that sees the frames, or of its own."""
    if lead is not None:
        assert lead.norms.openness is not None
        return lead.norms, lead.norms.openness
    head_input = load_head_input(setup.bundle)
    openness = _openness(setup, head_input)
    if head_input is None:
        return NormVectors(openness, realtime, clock), openness
    return MovedInput(openness, head_input, "modulated"), openness


def _openness(setup: Setup, head_input: HeadInput | None = None) -> Openness:
    """Fixed, or following what the sensing norms of the bundle see, or the head's input where it has none."""
    manifest, trained = setup.bundle.manifest, load_norms(setup.bundle)
    channels, sensing = [norm.channels for norm in manifest.norms], manifest.sensing_norms
    fitted = load_mixing(setup.bundle) if setup.options.prior is None else None
    limits = _limits(manifest, fitted is not None) if setup.follows_home else None
    return Openness(
        trained,
        fitted or Mixing.of_prior(channels, setup.settings.prior, manifest.places_of_norms),
        FollowingOpening() if setup.options.opening == "auto" else FixedOpening(setup.options.opening),
        SensingNorms(trained.statistics, channels, sensing) if sensing else head_input,
        limits,
        manifest.weight_rows,
        _all_norms(manifest, trained.statistics) if setup.follows_home else None,
    )


def _all_norms(manifest: Manifest, trained: Tensor) -> HomeDistances | DiscsDistances:
    home = manifest.home
    return distances_of_all(
        trained,
        [norm.channels for norm in manifest.norms],
        home.home_distances if home is not None and home.at_home else None,
        manifest.discs_distance,
    )


def _limits(manifest: Manifest, fitted: bool) -> StatisticsLimits:
    """On the scale of the weights that mix."""
    home = manifest.home
    if home is None or home.fitted != fitted:
        return StatisticsLimits(manifest.noise_distance)
    return StatisticsLimits(home.noise_distance, home.copies_distances, home.jump or JUMP)
