"""A network that was trained on frames between grey bars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ocl_edge.bundle.reading import Bundle
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import SessionOptions
from tests.doubles import small_network
from tests.doubles.bundles import export_small
from tests.doubles.images import random_image


@pytest.fixture(scope="module")
def letterboxed(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_small(tmp_path_factory.mktemp("bars") / "bundle", small_checkpoint, resize="letterbox")


def test_its_mask_is_the_network_s_on_the_frame_with_bars(letterboxed: Bundle) -> None:
    image = random_image(3, 40, 100)
    with open_session(letterboxed, SessionOptions("frozen")) as session:
        mask = session.predict(image)
    assert mask.shape == (40, 100)
    frame = letterboxed.manifest.input
    picture = np.full((76, 100, 3), 114, np.uint8)
    picture[18:58] = image
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    seen = F.interpolate(pixels, (frame.height, frame.width), mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (frame.mean, frame.std))
    network = small_network.trained()
    with torch.no_grad():
        logits = network((seen - mean) / std)
    while not isinstance(logits, torch.Tensor):
        logits = logits["out"]
    expected = F.interpolate(logits, (76, 100), mode="bilinear", align_corners=False).argmax(1)[0].numpy()
    assert (mask != expected[18:58]).mean() < 0.02  # the network's own resize comes first in the expectation


def test_it_adapts_and_its_masks_stay_the_frames(letterboxed: Bundle) -> None:
    with open_session(letterboxed, SessionOptions(opening=1.0)) as session:
        shapes = {session.step(random_image(index, 100, 30)).mask.shape for index in range(4)}
    assert shapes == {(100, 30)}
