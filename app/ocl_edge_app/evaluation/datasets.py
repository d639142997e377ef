"""Published data sets as they lie on a disk: which files are frames, which their labels, in which order.

cityscapes  leftImg8bit/SPLIT/CITY/*_leftImg8bit.png, gtFine/SPLIT/CITY/*_gtFine_labelTrainIds.png, or
            *_labelIds.png, *_instanceIds.png (16 bits), *_color.png
acdc        rgb_anon/CONDITION/SPLIT/SEQUENCE/*_rgb_anon.png, gt/.../*_gt_labelTrainIds.png, or
            *_labelIds.png, *_labelColor.png
bdd100k     images/10k/SPLIT/*.jpg, labels/sem_seg/masks/SPLIT/*.png: train ids; or colormaps/SPLIT/*.png
kitti       training/image_2/*.png, training/semantic/*.png: label ids; or instance/*.png (16 bits),
            semantic_rgb/*.png
gta5        images/*.png, labels/*.png: label ids or colours
camvid      SPLIT/*.png, SPLITannot/*.png: eleven classes and void, SegNet's selection; or as published,
            701_StillsRaw_full/*.png, LabeledApproved_full/*_L.png: colours of 32 classes
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ocl_edge.bundle.manifest import Manifest
from ocl_edge.errors import UsageError
from ocl_edge.given_files import read_given, reason_of
from ocl_edge.images import Colour
from ocl_edge.scoring.labels import IGNORED, LabelSpace
from ocl_edge_app.evaluation.label_code import AS_THEY_ARE, LabelCode
from ocl_edge_export.classes import CITYSCAPES

MOST_BYTES = 16 << 20
NAMED_AT_MOST = 10
IN_16_BITS = 1 << 16

Pair = tuple[Path, Path]
STREET = tuple(name for name, _ in CITYSCAPES)
TRAIN_IDS = dict(
    zip((7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33), range(19), strict=True)
)
"""Label id of Cityscapes -> train id (cityscapesscripts, helpers/labels.py); all others are ignored."""

STREET_COLOURS = tuple((colour, place) for place, (_, colour) in enumerate(CITYSCAPES))
OF_TRAIN_IDS = LabelCode(colours=STREET_COLOURS)
OF_LABEL_IDS = LabelCode(tuple(TRAIN_IDS.get(value, IGNORED) for value in range(34)), STREET_COLOURS)
OF_INSTANCES = LabelCode(
    tuple(TRAIN_IDS.get(value if value < 1000 else value // 1000, IGNORED) for value in range(IN_16_BITS))
)
"""Cityscapes: a label id, or a thousand times the id with the number of an instance."""
OF_KITTI_INSTANCES = LabelCode(tuple(TRAIN_IDS.get(value >> 8, IGNORED) for value in range(IN_16_BITS)))
"""KITTI: the label id in the upper 8 bits, an instance in the lower ones."""

CAMVID: dict[str, tuple[Colour, ...]] = {
    "sky": ((128, 128, 128),),
    "building": ((128, 0, 0), (0, 128, 64), (64, 192, 0), (64, 0, 64), (192, 0, 128)),
    "pole": ((192, 192, 128), (0, 0, 64)),
    "road": ((128, 64, 128), (128, 0, 192), (192, 0, 64)),
    "sidewalk": ((0, 0, 192), (64, 192, 128), (128, 128, 192)),
    "vegetation": ((128, 128, 0), (192, 192, 0)),
    "traffic sign": ((192, 128, 128), (128, 128, 64), (0, 64, 64)),
    "fence": ((64, 64, 128),),
    "car": ((64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)),
    "person": ((64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)),
    "bicycle": ((0, 128, 192), (192, 0, 192)),
}
"""SegNet's eleven classes of CamVid by the names that Cityscapes gives them, and the published colours that
each of them gathers, its own first."""

OF_SEGNET = LabelCode(tuple(range(len(CAMVID))))
OF_CAMVID_COLOURS = LabelCode(
    colours=tuple((colour, place) for place, colours in enumerate(CAMVID.values()) for colour in colours)
)


@dataclass(frozen=True)
class Dataset:
    """Labelled frames of a data set.

    Attributes:
        pairs: image and label files, in the data set's order.
        names: of the label classes; empty: those of the network.
        code: of the label files.
    """

    pairs: tuple[Pair, ...]
    names: tuple[str, ...] = ()
    code: LabelCode = AS_THEY_ARE


@dataclass(frozen=True)
class Layout:
    """How a data set lies on a disk.

    Attributes:
        split: the usual one.
        frames: files below a directory, of a split.
        labels: kinds of labels, those first that are taken where there are several: the file of a frame, by
            directory, split and frame; and its code.
        names: of the label classes.
    """

    split: str
    frames: Callable[[Path, str], Iterable[Path]]
    labels: tuple[tuple[Callable[[Path, str, Path], Path], LabelCode], ...]
    names: tuple[str, ...] = STREET

    def found(self, root: Path, split: str) -> tuple[tuple[Pair, ...], LabelCode]:
        """Frames in order of city and name with their labels: of the first kind that all of them have."""
        frames = sorted(self.frames(root, split))
        kinds = [
            (tuple((frame, label_of(root, split, frame)) for frame in frames), code)
            for label_of, code in self.labels
        ]
        complete = (kind for kind in kinds if all(label.is_file() for _, label in kind[0]))
        return next(complete, kinds[0])


def find_dataset(text: str, limit: int | None = None) -> Dataset:
    """What ``--dataset`` names: ``NAME:DIR``, ``NAME:DIR:SPLIT`` or ``pairs:FILE``.

    Raises:
        UsageError: no such data set, nothing of its layout in the directory, or frames without labels.
    """
    name, _, rest = text.partition(":")
    if name == "pairs":
        return Dataset(_listed(Path(rest))[:limit])
    if name not in LAYOUTS or not rest:
        raise UsageError(
            f"--dataset {text}: expected NAME:DIR[:SPLIT] or pairs:FILE; known: {', '.join(LAYOUTS)}"
        )
    directory, split = rest, ""
    if ":" in rest and not Path(rest).is_dir():
        directory, _, split = rest.rpartition(":")
    if not Path(directory).is_dir():
        raise UsageError(f"--dataset {text}: there is no directory {directory}")
    for layout in LAYOUTS[name]:
        pairs, code = layout.found(Path(directory), split or layout.split)
        if pairs:
            break
    else:
        raise UsageError(
            f"--dataset {text}: no frames there as {name} lays them out (split "
            f"{split or LAYOUTS[name][0].split})"
        )
    pairs = pairs[:limit]
    missing = [str(label) for _, label in pairs if not label.is_file()]
    if missing:
        raise UsageError(
            f"--dataset {text}: {len(missing)} of {len(pairs)} frames have no labels: "
            f"{', '.join(missing[:NAMED_AT_MOST])}"
        )
    return Dataset(pairs, layout.names, code)


def space_by_names(manifest: Manifest, names: tuple[str, ...]) -> LabelSpace:
    """The label classes for a bundle: each class of the network is the label class of its name.

    A prediction of another class is wrong wherever there is a label.

    Raises:
        UsageError: no class has the name of a label class.
    """
    own = tuple(each.name for each in manifest.classes)
    if own == names or not names:
        return LabelSpace(own, IGNORED, None)
    mapped = tuple(names.index(name) if name in names else IGNORED for name in own)
    if all(value == IGNORED for value in mapped):
        raise UsageError(
            f"no class of the network is called as one of the labels ({', '.join(names)}): "
            "--label-map must say which is which"
        )
    return LabelSpace(names, IGNORED, mapped)


def _listed(file: Path) -> tuple[Pair, ...]:
    """Lines of image and label, quoted where they hold spaces, from the file's own directory."""
    pairs = []
    try:
        for number, line in enumerate(read_given(file, MOST_BYTES).decode().splitlines(), 1):
            words = shlex.split(line, comments=True)
            if words and len(words) != 2:
                raise UsageError(f"{file}, line {number}: expected an image and its labels, got {len(words)}")
            if words:
                pairs.append((file.parent / words[0], file.parent / words[1]))
    except OSError as error:
        raise UsageError(f"--dataset pairs:{file} cannot be read: {reason_of(error)}") from error
    except ValueError as error:
        raise UsageError(f"--dataset pairs:{file} cannot be read: {error}") from error
    if not pairs:
        raise UsageError(f"--dataset pairs:{file} lists no frames")
    missing = [str(each) for pair in pairs for each in pair if not each.is_file()]
    if missing:
        raise UsageError(f"{file} names files that are not there: {', '.join(missing[:NAMED_AT_MOST])}")
    return tuple(pairs)


def _cityscapes_label(kind: str) -> Callable[[Path, str, Path], Path]:
    def label_of(root: Path, split: str, image: Path) -> Path:
        stem = image.name.removesuffix("_leftImg8bit.png")
        return root / "gtFine" / split / image.parent.name / f"{stem}_gtFine_{kind}.png"

    return label_of


def _acdc_frames(root: Path, split: str) -> Iterable[Path]:
    condition, _, part = split.rpartition("/")
    return (root / "rgb_anon").glob(f"{condition or '*'}/{part}/*/*_rgb_anon.png")


def _acdc_label(kind: str) -> Callable[[Path, str, Path], Path]:
    def label_of(root: Path, _split: str, image: Path) -> Path:
        named = image.name.replace("_rgb_anon.png", f"_gt_{kind}.png")
        return root / "gt" / image.relative_to(root / "rgb_anon").with_name(named)

    return label_of


def _beside(pattern: str) -> Callable[[Path, str, Path], Path]:
    """Labels in another directory, where ``{split}`` and ``{stem}`` stand for the frame's."""
    return lambda root, split, image: root / pattern.format(split=split, stem=image.stem)


LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "cityscapes": (
        Layout(
            "val",
            lambda root, split: (root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"),
            (
                (_cityscapes_label("labelTrainIds"), OF_TRAIN_IDS),
                (_cityscapes_label("labelIds"), OF_LABEL_IDS),
                (_cityscapes_label("instanceIds"), OF_INSTANCES),
                (_cityscapes_label("color"), OF_TRAIN_IDS),
            ),
        ),
    ),
    "acdc": (
        Layout(
            "val",
            _acdc_frames,
            (
                (_acdc_label("labelTrainIds"), OF_TRAIN_IDS),
                (_acdc_label("labelIds"), OF_LABEL_IDS),
                (_acdc_label("labelColor"), OF_TRAIN_IDS),
            ),
        ),
    ),
    "bdd100k": (
        Layout(
            "val",
            lambda root, split: (root / "images" / "10k" / split).glob("*.jpg"),
            (
                (_beside("labels/sem_seg/masks/{split}/{stem}.png"), OF_TRAIN_IDS),
                (_beside("labels/sem_seg/colormaps/{split}/{stem}.png"), OF_TRAIN_IDS),
            ),
        ),
    ),
    "kitti": (
        Layout(
            "training",
            lambda root, split: (root / split / "image_2").glob("*.png"),
            (
                (_beside("{split}/semantic/{stem}.png"), OF_LABEL_IDS),
                (_beside("{split}/instance/{stem}.png"), OF_KITTI_INSTANCES),
                (_beside("{split}/semantic_rgb/{stem}.png"), OF_TRAIN_IDS),
            ),
        ),
    ),
    "gta5": (
        Layout(
            "",
            lambda root, _split: (root / "images").glob("*.png"),
            ((_beside("labels/{stem}.png"), OF_LABEL_IDS),),
        ),
    ),
    "camvid": (
        Layout(
            "test",
            lambda root, split: (root / split).glob("*.png"),
            ((_beside("{split}annot/{stem}.png"), OF_SEGNET),),
            tuple(CAMVID),
        ),
        Layout(
            "",
            lambda root, _split: (root / "701_StillsRaw_full").glob("*.png"),
            ((_beside("LabeledApproved_full/{stem}_L.png"), OF_CAMVID_COLOURS),),
            tuple(CAMVID),
        ),
    ),
}
"""Name -> the ways in which it is laid out, the first one that is found is taken."""
