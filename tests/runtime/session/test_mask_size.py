"""Masks of another size than the frame's."""

from __future__ import annotations

import numpy as np
import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import UsageError
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import MaskSize, RealtimeOptions, SessionOptions
from tests.doubles.images import random_image


@pytest.mark.parametrize("realtime", [None, RealtimeOptions()])
@pytest.mark.parametrize("wanted", ["frame", "network", (24, 31)])
def test_a_mask_has_the_size_that_was_asked_for(
    small_bundle: Bundle, realtime: RealtimeOptions | None, wanted: MaskSize
) -> None:
    network = small_bundle.manifest.input
    sizes = {"frame": (40, 50), "network": (network.height, network.width), (24, 31): (24, 31)}
    with open_session(small_bundle, SessionOptions(mask_size=wanted), realtime) as session:
        result = session.step(random_image(0, 40, 50))
        assert result.mask.shape == sizes[wanted]
        assert session.facts()["mask_size"] == wanted


def test_the_network_s_own_mask_is_what_the_tail_gives_there(small_bundle: Bundle) -> None:
    image, network = random_image(3, 40, 50), small_bundle.manifest.input
    frozen = SessionOptions("frozen", mask_size="network")
    with open_session(small_bundle, frozen) as session:
        mask = session.predict(image)
        assert session.seen is not None
        logits = session.seen.logits
        expected = session.segmenter.tail.everywhere(logits, network.height, network.width)
    np.testing.assert_array_equal(mask, expected)


def test_masks_of_another_size_change_nothing_that_is_learned(small_bundle: Bundle) -> None:
    digests = set()
    for size in ("frame", (16, 16)):
        with open_session(small_bundle, SessionOptions(opening=1.0, mask_size=size)) as session:
            for index in range(3):
                session.step(random_image(index))
            digests.add(session.weights.weights_sha256())
    assert len(digests) == 1


@pytest.mark.parametrize("size", ["half", (0, 5), (5,), (1.5, 2), (1 << 20, 1 << 20), None])
def test_other_sizes_are_refused(size: object) -> None:
    with pytest.raises(UsageError, match="mask_size"):
        SessionOptions(mask_size=size)  # type: ignore[arg-type]
