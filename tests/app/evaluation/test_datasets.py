"""Data sets as they lie on a disk: trees that are drawn with the names of the published ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ocl_edge.bundle.manifest import Manifest
from ocl_edge.bundle.manifest_parts import ClassSpec
from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import UsageError
from ocl_edge_app.cli import run
from ocl_edge_app.evaluation.datasets import STREET, find_dataset, space_by_names
from ocl_edge_app.evaluation.label_code import AS_THEY_ARE
from ocl_edge_app.evaluation.labelled import LabelledFrames
from ocl_edge_app.evaluation.what_is_scored import Named, find_what_is_scored
from tests.doubles.images import random_image

LABEL_IDS = np.array([[7, 8, 0, 33], [11, 26, 255, 1]], np.uint8)
TRAIN_IDS = np.array([[0, 1, 255, 18], [2, 13, 255, 255]], np.uint8)
"""Of the same pixels: road, sidewalk, unlabelled, bicycle; building, car, license plate, ego vehicle."""


def put(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def frame_at(root: Path, image: str, label: str, labels: np.ndarray) -> None:
    put(root / image, random_image(1, *labels.shape))
    put(root / label, labels)


def draw(root: Path, name: str) -> list[str]:
    """Two frames of a data set; their paths in its order."""
    if name.startswith("cityscapes"):
        kind, labels = ("labelIds", LABEL_IDS) if name.endswith("ids") else ("labelTrainIds", TRAIN_IDS)
        order = ["aachen/aachen_000001_000019", "zurich/zurich_000000_000019"]
        for each in reversed(order):
            image = f"leftImg8bit/val/{each}_leftImg8bit.png"
            frame_at(root, image, f"gtFine/val/{each}_gtFine_{kind}.png", labels)
        return [f"leftImg8bit/val/{each}_leftImg8bit.png" for each in order]
    if name == "acdc":
        order = ["fog/val/GOPR0475/GOPR0475_frame_000041", "night/val/GOPR0356/GOPR0356_frame_000321"]
        for each in order:
            frame_at(root, f"rgb_anon/{each}_rgb_anon.png", f"gt/{each}_gt_labelTrainIds.png", TRAIN_IDS)
        return [f"rgb_anon/{each}_rgb_anon.png" for each in order]
    images, labels, values, suffix = {
        "bdd100k": ("images/10k/val", "labels/sem_seg/masks/val", TRAIN_IDS, "jpg"),
        "kitti": ("training/image_2", "training/semantic", LABEL_IDS, "png"),
        "gta5": ("images", "labels", LABEL_IDS, "png"),
    }[name]
    for stem in ("00002", "00001"):
        frame_at(root, f"{images}/{stem}.{suffix}", f"{labels}/{stem}.png", values)
    return [f"{images}/{stem}.{suffix}" for stem in ("00001", "00002")]


@pytest.mark.parametrize("name", ["cityscapes", "cityscapes with ids", "acdc", "bdd100k", "kitti", "gta5"])
def test_frames_come_in_order_with_train_ids_as_labels(tmp_path: Path, name: str) -> None:
    expected = draw(tmp_path, name)
    found = find_dataset(f"{name.partition(' ')[0]}:{tmp_path}")
    frames = LabelledFrames(found.pairs, found.code)
    assert [image.relative_to(tmp_path).as_posix() for image, _ in frames.pairs] == expected
    for index in range(2):
        assert np.array_equal(frames.read(index)[1], TRAIN_IDS)
    assert found.names == STREET


def test_one_condition_of_acdc_is_a_stream_of_its_own(tmp_path: Path) -> None:
    expected = draw(tmp_path, "acdc")
    found = find_dataset(f"acdc:{tmp_path}:night/val")
    assert [image.relative_to(tmp_path).as_posix() for image, _ in found.pairs] == expected[1:]


STREET_COLOURS = {0: (128, 64, 128), 1: (244, 35, 232), 2: (70, 70, 70), 13: (0, 0, 142), 18: (119, 11, 32)}
IN_COLOURS = np.array([[STREET_COLOURS.get(v, (0, 0, 0)) for v in row] for row in TRAIN_IDS], np.uint8)


@pytest.mark.parametrize(
    ("name", "image", "label", "pixels"),
    [
        (
            "cityscapes",
            "leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png",
            "gtFine/val/ulm/ulm_000000_000019_gtFine_instanceIds.png",
            np.array([[7, 8, 0, 33001], [11, 26000, 1, 3]], np.uint16),
        ),
        (
            "cityscapes",
            "leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png",
            "gtFine/val/ulm/ulm_000000_000019_gtFine_color.png",
            np.dstack((IN_COLOURS, np.full(TRAIN_IDS.shape, 255, np.uint8))),
        ),
        (
            "acdc",
            "rgb_anon/fog/val/GOPR0475/a_rgb_anon.png",
            "gt/fog/val/GOPR0475/a_gt_labelColor.png",
            IN_COLOURS,
        ),
        ("bdd100k", "images/10k/val/a.jpg", "labels/sem_seg/colormaps/val/a.png", IN_COLOURS),
        (
            "kitti",
            "training/image_2/a.png",
            "training/instance/a.png",
            (LABEL_IDS % 255).astype(np.uint16) * 256 + 7,
        ),
        ("kitti", "training/image_2/a.png", "training/semantic_rgb/a.png", IN_COLOURS),
        ("gta5", "images/a.png", "labels/a.png", IN_COLOURS),
    ],
)
def test_labels_of_sixteen_bits_and_of_colours_become_train_ids(
    tmp_path: Path, name: str, image: str, label: str, pixels: np.ndarray
) -> None:
    put(tmp_path / image, random_image(1, *TRAIN_IDS.shape))
    put(tmp_path / label, pixels)
    found = find_dataset(f"{name}:{tmp_path}")
    assert np.array_equal(LabelledFrames(found.pairs, found.code).read(0)[1], TRAIN_IDS)


def test_camvid_as_published_has_colours_of_32_classes(tmp_path: Path) -> None:
    colours = np.array([[(64, 64, 128), (0, 128, 64), (64, 128, 192), (0, 0, 0), (1, 2, 3)]], np.uint8)
    put(tmp_path / "701_StillsRaw_full/0001TP_006690.png", random_image(1, 1, 5))
    put(tmp_path / "LabeledApproved_full/0001TP_006690_L.png", colours)
    found = find_dataset(f"camvid:{tmp_path}")
    labels = LabelledFrames(found.pairs, found.code).read(0)[1]
    names = [found.names[value] if value != 255 else "" for value in labels[0]]
    assert names == ["fence", "building", "car", "", ""]


def of_classes(bundle: Bundle, names: list[str]) -> Manifest:
    classes = tuple(ClassSpec(name=name, colour=(9, index, 9)) for index, name in enumerate(names))
    return bundle.manifest.model_copy(update={"classes": classes})


def test_colours_are_those_of_the_label_classes_or_of_the_network(
    small_bundle: Bundle, tmp_path: Path
) -> None:
    manifest = of_classes(small_bundle, list("abcde"))
    frame_at(tmp_path, "a.png", "l.png", np.zeros((1, 3), np.uint8))
    put(tmp_path / "l.png", np.array([[(9, 4, 9), (9, 0, 9), (7, 7, 7)]], np.uint8))
    (tmp_path / "list.txt").write_text("a.png l.png\n")
    named = Named(f"pairs:{tmp_path / 'list.txt'}")
    assert find_what_is_scored(named, manifest)[0].read(0)[1].tolist() == [[4, 0, 255]]
    classes = {"classes": list("vwxyz"), "palette_rgb": [[7, 7, 7], *[[0, 0, i] for i in range(4)]]}
    (tmp_path / "classes.json").write_text(json.dumps(classes | {"ignore_index": 5}))
    named = Named(named.dataset, label_classes=tmp_path / "classes.json")
    assert find_what_is_scored(named, manifest)[0].read(0)[1].tolist() == [[5, 5, 0]]


def test_as_published_is_half_the_size_and_only_with_classes_that_the_network_has(
    small_bundle: Bundle, tmp_path: Path
) -> None:
    """SYNTHIA has 16 of Cityscapes' 19 classes, and the labels of the others are left out."""
    manifest = of_classes(small_bundle, ["sidewalk", "road", "car", "sky", "nothing like it"])
    labels = np.zeros((1024, 2048), np.uint8)
    labels[:, 512:1024], labels[:, 1024:1536], labels[:, 1536:] = 1, 14, 13  # sidewalk, truck, car
    labels[:, :2] = 255
    image = "leftImg8bit/val/ulm/a_leftImg8bit.png"
    frame_at(tmp_path, image, "gtFine/val/ulm/a_gtFine_labelTrainIds.png", labels)
    named = Named(f"cityscapes:{tmp_path}", as_published=True)
    frames, space, palette = find_what_is_scored(named, manifest)
    assert (space.names, space.class_map) == (("road", "sidewalk", "sky", "car"), (1, 0, 3, 2, 255))
    assert (space.predicted_too, len(palette)) == (True, 4)
    pixels, found = frames.read(0)
    assert pixels.shape == (512, 1024, 3)
    assert found[7, [0, 5, 300, 600, 1000]].tolist() == [255, 0, 1, 255, 3]
    expected = Image.fromarray(random_image(1, 1024, 2048)).resize((1024, 512), Image.Resampling.BICUBIC)
    assert np.array_equal(pixels, np.array(expected))


def test_camvid_has_eleven_classes_and_void(tmp_path: Path) -> None:
    frame_at(tmp_path, "test/a.png", "testannot/a.png", np.array([[0, 10, 11, 3]], np.uint8))
    found = find_dataset(f"camvid:{tmp_path}")
    assert LabelledFrames(found.pairs, found.code).read(0)[1].tolist() == [[0, 10, 255, 3]]
    assert (found.names[3], found.names[10]) == ("road", "bicycle")


def test_pairs_of_any_names_come_in_the_file_s_order(tmp_path: Path) -> None:
    for name in ("b", "a a"):
        frame_at(tmp_path, f"{name}.png", f"labels/{name}_l.png", TRAIN_IDS)
    (tmp_path / "list.txt").write_text("# drive 1\nb.png labels/b_l.png\n\n'a a.png' 'labels/a a_l.png'\n")
    found = find_dataset(f"pairs:{tmp_path / 'list.txt'}")
    assert [image.name for image, _ in found.pairs] == ["b.png", "a a.png"]
    assert found.code == AS_THEY_ARE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cityscape:DIR", r"known: cityscapes, acdc, bdd100k, kitti, gta5, camvid"),
        ("cityscapes", r"expected NAME:DIR"),
        ("cityscapes:DIR/none", r"there is no directory"),
        ("cityscapes:DIR:train", r"no frames there as cityscapes lays them out \(split train\)"),
        ("kitti:DIR", r"1 of 1 frames have no labels: .*semantic/1.png"),
        ("pairs:DIR/none.txt", r"cannot be read: No such file"),
        ("pairs:DIR/three.txt", r"line 2: expected an image and its labels, got 3"),
        ("pairs:DIR/gone.txt", r"names files that are not there: .*x.png"),
        ("pairs:DIR/empty.txt", r"lists no frames"),
        ("pairs:DIR/quote.txt", r"cannot be read: No closing quotation"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, said: str) -> None:
    put(tmp_path / "training/image_2/1.png", random_image(1))
    texts = {"three": "# x\na b c\n", "gone": "x.png y.png\n", "empty": "# nothing\n", "quote": "'a b\n"}
    for name, content in texts.items():
        (tmp_path / f"{name}.txt").write_text(content)
    with pytest.raises(UsageError, match=said):
        find_dataset(text.replace("DIR", str(tmp_path)))


def test_classes_of_the_network_are_found_by_their_names(small_bundle: Bundle) -> None:
    own = tuple(each.name for each in small_bundle.manifest.classes)
    assert space_by_names(small_bundle.manifest, own).class_map is None
    other = ("sky", own[2], own[0])
    assert space_by_names(small_bundle.manifest, other).class_map == (2, 255, 1, 255, 255)
    with pytest.raises(UsageError, match=r"--label-map must say which is which"):
        space_by_names(small_bundle.manifest, ("sky",))


def test_evaluate_scores_a_data_set(
    small_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.random.default_rng(0).integers(0, 5, (40, 50)).astype(np.uint8)
    for name in ("a", "b"):
        frame_at(tmp_path, f"{name}.png", f"{name}_labels.png", labels)
    (tmp_path / "pairs.txt").write_text("b.png b_labels.png\na.png a_labels.png\n")
    begun = ["evaluate", str(small_bundle.path), "--methods", "frozen"]
    listed = ["--dataset", f"pairs:{tmp_path / 'pairs.txt'}"]
    assert run([*begun, *listed, "--json", str(tmp_path / "out.json")]) == 0
    (tmp_path / "frames").mkdir()
    (tmp_path / "labels").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").rename(tmp_path / "frames" / f"{name}.png")
        (tmp_path / f"{name}_labels.png").rename(tmp_path / "labels" / f"{name}.png")
    plain = ["--frames", str(tmp_path / "frames"), "--labels", str(tmp_path / "labels")]
    assert run([*begun, *plain, "--json", str(tmp_path / "plain.json")]) == 0
    rows = [
        json.loads((tmp_path / name).read_text("utf-8"))["rows"][0] for name in ("out.json", "plain.json")
    ]
    assert rows[0]["miou"] == rows[1]["miou"]
    assert run([*begun, *listed, *plain]) == 2
    assert run(begun) == 2
    assert "name the labelled frames" in capsys.readouterr().err
