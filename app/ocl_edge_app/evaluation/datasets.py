"""Published data sets as they lie on a disk: which files are frames, which their labels, in which order.

cityscapes  leftImg8bit/SPLIT/CITY/*_leftImg8bit.png, gtFine/SPLIT/CITY/*_gtFine_labelTrainIds.png or
            *_gtFine_labelIds.png
acdc        rgb_anon/CONDITION/SPLIT/SEQUENCE/*_rgb_anon.png, gt/.../*_gt_labelTrainIds.png
bdd100k     images/10k/SPLIT/*.jpg, labels/sem_seg/masks/SPLIT/*.png: train ids
kitti       training/image_2/*.png, training/semantic/*.png: label ids
gta5        images/*.png, labels/*.png: label ids
camvid      SPLIT/*.png, SPLITannot/*.png: eleven classes and void, SegNet's selection
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ocl_edge.bundle.manifest import Manifest
from ocl_edge.errors import UsageError
from ocl_edge.given_files import read_given, reason_of
from ocl_edge.scoring.labels import IGNORED, LabelSpace
from ocl_edge_export.classes import CITYSCAPES

MOST_BYTES = 16 << 20
NAMED_AT_MOST = 10

Pair = tuple[Path, Path]
Recoding = tuple[int, ...]
"""Class of each value 0 to 255 of a label file."""

TRAIN_IDS = dict(
    zip((7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33), range(19), strict=True)
)
"""Label id of Cityscapes -> train id (cityscapesscripts, helpers/labels.py); all others are ignored."""

OF_LABEL_IDS: Recoding = tuple(TRAIN_IDS.get(value, IGNORED) for value in range(256))
STREET = tuple(name for name, _ in CITYSCAPES)
CAMVID = (
    "sky", "building", "pole", "road", "sidewalk", "vegetation", "traffic sign", "fence", "car", "person",
    "bicycle",
)  # fmt: skip
"""SegNet's eleven classes of CamVid by the names that Cityscapes gives them."""


@dataclass(frozen=True)
class Dataset:
    """Labelled frames of a data set.

    Attributes:
        pairs: image and label files, in the data set's order.
        names: of the label classes; empty: those of the network.
        recoding: of the values in the label files; None: they are the classes.
    """

    pairs: tuple[Pair, ...]
    names: tuple[str, ...] = ()
    recoding: Recoding | None = None


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
    default, pairs_of, names, recoding = LAYOUTS[name]
    pairs = pairs_of(Path(directory), split or default)[:limit]
    if not pairs:
        raise UsageError(
            f"--dataset {text}: no frames there as {name} lays them out (split {split or default})"
        )
    missing = [str(label) for _, label in pairs if not label.is_file()]
    if missing:
        raise UsageError(
            f"--dataset {text}: {len(missing)} of {len(pairs)} frames have no labels: "
            f"{', '.join(missing[:NAMED_AT_MOST])}"
        )
    of_ids = any(label.name.endswith("_labelIds.png") for _, label in pairs)
    return Dataset(pairs, names, OF_LABEL_IDS if of_ids else recoding)


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


def _pairs(images: Iterable[Path], label_of: Callable[[Path], Path]) -> tuple[Pair, ...]:
    return tuple((image, label_of(image)) for image in sorted(images))


def _cityscapes(root: Path, split: str) -> tuple[Pair, ...]:
    def labelled_with(kind: str) -> tuple[Pair, ...]:
        def label_of(image: Path) -> Path:
            stem = image.name.removesuffix("_leftImg8bit.png")
            return root / "gtFine" / split / image.parent.name / f"{stem}_gtFine_{kind}.png"

        return _pairs((root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"), label_of)

    of_training = labelled_with("labelTrainIds")
    complete = all(label.is_file() for _, label in of_training)
    return of_training if complete else labelled_with("labelIds")


def _acdc(root: Path, split: str) -> tuple[Pair, ...]:
    condition, _, part = split.rpartition("/")

    def label_of(image: Path) -> Path:
        named = image.name.replace("_rgb_anon.png", "_gt_labelTrainIds.png")
        return root / "gt" / image.relative_to(root / "rgb_anon").with_name(named)

    return _pairs((root / "rgb_anon").glob(f"{condition or '*'}/{part}/*/*_rgb_anon.png"), label_of)


def _bdd100k(root: Path, split: str) -> tuple[Pair, ...]:
    masks = root / "labels" / "sem_seg" / "masks" / split
    return _pairs((root / "images" / "10k" / split).glob("*.jpg"), lambda image: masks / f"{image.stem}.png")


def _kitti(root: Path, split: str) -> tuple[Pair, ...]:
    return _pairs(
        (root / split / "image_2").glob("*.png"), lambda image: root / split / "semantic" / image.name
    )


def _gta5(root: Path, _split: str) -> tuple[Pair, ...]:
    return _pairs((root / "images").glob("*.png"), lambda image: root / "labels" / image.name)


def _camvid(root: Path, split: str) -> tuple[Pair, ...]:
    return _pairs((root / split).glob("*.png"), lambda image: root / f"{split}annot" / image.name)


OF_CAMVID: Recoding = tuple(value if value < len(CAMVID) else IGNORED for value in range(256))
Layout = tuple[str, Callable[[Path, str], tuple[Pair, ...]], tuple[str, ...], Recoding | None]
LAYOUTS: dict[str, Layout] = {
    "cityscapes": ("val", _cityscapes, STREET, None),
    "acdc": ("val", _acdc, STREET, None),
    "bdd100k": ("val", _bdd100k, STREET, None),
    "kitti": ("training", _kitti, STREET, OF_LABEL_IDS),
    "gta5": ("", _gta5, STREET, OF_LABEL_IDS),
    "camvid": ("test", _camvid, CAMVID, OF_CAMVID),
}
"""Name -> usual split, how files are found, label classes, recoding of the label files."""
