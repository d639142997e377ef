"""From what the user names to labelled frames and the classes that they are scored in."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from ocl_edge.bundle.manifest import Manifest
from ocl_edge.errors import UsageError
from ocl_edge.images import Colour
from ocl_edge_app.evaluation.datasets import Dataset, Pair, find_dataset, space_by_names
from ocl_edge_app.evaluation.fetched import Mirror, is_url
from ocl_edge_app.evaluation.label_code import LabelCode
from ocl_edge_app.evaluation.labelled import (
    LabelledFrames,
    LabelSpace,
    read_label_palette,
    read_label_space,
)

DATASET_BY_URL = re.compile(r"(?P<name>[a-z0-9]+):(?P<url>[a-z0-9+.-]+://.+?)(?P<split>:[A-Za-z][^:]*)?")
"""A split begins with a letter, a port does not."""

PUBLISHED_SIZE = (512, 1024)
"""Height and width in the OCL paper's evaluation (reference code: ``--target_crop_size``)."""


@dataclass(frozen=True)
class Named:
    """What the user named.

    Attributes:
        dataset: see `find_dataset`.
        frames: a directory, its URL, or a pattern, where there is no data set.
        labels: directory of their label files, or its URL.
        label_map: see `read_label_space`.
        label_classes: likewise.
        as_published: sizes and scoring of the OCL paper's evaluation.
        limit: of the number of frames.
    """

    dataset: str | None = None
    frames: str | None = None
    labels: str | None = None
    label_map: Path | None = None
    label_classes: Path | None = None
    as_published: bool = False
    limit: int | None = None

    def absolute(self) -> Named:
        """The same files, from any working directory."""
        kind, _, place = (self.dataset or "").partition(":")
        return replace(
            self,
            dataset=f"{kind}:{_absolute(place)}" if self.dataset else None,
            frames=_absolute(self.frames) if self.frames else None,
            labels=_absolute(self.labels) if self.labels else None,
        )


def _absolute(place: str) -> str:
    return place if is_url(place) else str(Path(place).absolute())


def find_pairs(named: Named) -> tuple[Pair, ...]:
    """The files of frames and labels.

    Raises:
        UsageError: none of what is named.
    """
    return _frames(named)[1].pairs


def find_what_is_scored(named: Named, manifest: Manifest) -> tuple[LabelledFrames, LabelSpace, list[Colour]]:
    """Frames with labels, the label classes and their colours.

    As published, frames and labels are brought to 1024x512, label classes that the network does not have are
    left out, and a class that is predicted and never labelled counts as 0.

    Raises:
        UsageError: contradictory or missing options, or nothing of what they name.
    """
    found, labelled = _frames(named)
    labelled = replace(labelled, channels=manifest.input.frame_channels)
    by_names = bool(found and found.names and not (named.label_map or named.label_classes))
    if found and not (named.label_map or named.label_classes):
        space = space_by_names(manifest, found.names)
    else:
        space = read_label_space(manifest, named.label_map, named.label_classes)
    palette = read_label_palette(manifest, space, named.label_classes)
    if not labelled.code.colours and labelled.code.classes is None:
        labelled = replace(labelled, code=LabelCode.of_palette(palette, space.ignore))
    if not named.as_published:
        return labelled, space, palette
    if by_names and space.class_map is not None:
        kept = tuple(place for place in range(len(space.names)) if place in space.class_map)
        numbers = {place: number for number, place in enumerate(kept)}
        names = tuple(space.names[place] for place in kept)
        class_map = tuple(numbers.get(place, space.ignore) for place in space.class_map)
        space, palette = LabelSpace(names, space.ignore, class_map), [palette[place] for place in kept]
        labelled = replace(labelled, code=labelled.code.keeping(kept))
    return replace(labelled, size=PUBLISHED_SIZE), replace(space, predicted_too=True), palette


def _frames(named: Named) -> tuple[Dataset | None, LabelledFrames]:
    named, mirrors = _mirrored(named)
    dataset: Dataset | None
    if named.dataset:
        if named.frames or named.labels:
            raise UsageError("--dataset has frames and labels of its own: leave out --frames and --labels")
        dataset = find_dataset(named.dataset, named.limit)
        frames = LabelledFrames(dataset.pairs, dataset.code)
    elif named.frames and named.labels:
        dataset, frames = None, LabelledFrames.find(named.frames, Path(named.labels), named.limit)
    else:
        raise UsageError("name the labelled frames: --frames DIR --labels DIR, or --dataset NAME:DIR")
    for mirror in mirrors:
        mirror.fetch(file for pair in frames.pairs for file in pair)
    return dataset, frames


def _mirrored(named: Named) -> tuple[Named, list[Mirror]]:
    """With a directory in the user's cache for every URL."""
    mirrors = []

    def path_of(place: str | None) -> str | None:
        if place is None or not is_url(place):
            return place
        mirrors.append(Mirror.of(place))
        return str(mirrors[-1].root)

    dataset = named.dataset
    if dataset and (found := DATASET_BY_URL.fullmatch(dataset)):
        dataset = f"{found['name']}:{path_of(found['url'])}{found['split'] or ''}"
    return replace(
        named, dataset=dataset, frames=path_of(named.frames), labels=path_of(named.labels)
    ), mirrors
