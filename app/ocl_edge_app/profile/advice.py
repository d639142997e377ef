"""One line at the end of a profile: what takes the time, and what to try."""

from __future__ import annotations

from ocl_edge.timings import UPDATE_STAGES
from ocl_edge_app.profile.recording import Profile

OF_THE_MASK = {
    "preprocess": "hand over frames nearer to the network's size",
    "backbone": "an engine (ocl-edge build), a lower --precision, or export at a smaller --input-size",
    "head": "--head engine, or a later --split at export",
    "tail": "--mask-size network, if small masks will do",
}
NOTICEABLE = 1.15
"""Over the frozen network's time, where it is worth a word."""


def advice(profile: Profile, norm_every: int | None = 1) -> str:
    """A sentence on the time to the mask, and one on the updates where they take more than that.

    Args:
        profile: what was measured.
        norm_every: frames from a measurement of the norms to the next, as the profile was run.
    """
    stage, share = profile.dominant()
    sentences = [f"{stage} takes {100 * share:.0f} % of the time to the mask: try {OF_THE_MASK[stage]}"]
    ratio = profile.latency_ratio().p50
    if ratio > NOTICEABLE and norm_every == 1:
        sentences.append(f"masks take {ratio:.2f} times the frozen network's time: try --norm-every 4")
    means = profile.on.means()
    updates = sum(ms for name, ms in means.items() if name in UPDATE_STAGES)
    to_the_mask = sum(profile.on.latencies_ms()) / len(profile.on.frames)
    if updates > to_the_mask:
        sentences.append(
            f"updates take {updates / to_the_mask:.1f} times as long as masks: try --adapt-every 4, or "
            "--update background"
        )
    return "; ".join(sentences)
