"""What the documentation's commands and Python find when a test runs them.

The pages speak of the same few files everywhere. A sandbox is a directory that holds them, so
that commands run letter by letter as they are printed:

    net.py          the network of docs/your-own-model.md, as printed there
    model.pth       random weights of it, statistics of the pictures below; it says its input size
    two_tasks.py two_tasks.pth    a network of two tasks, and its weights
    bundle/         its bundle, for pages that do not export one themselves
    two-tasks/      the bundle of the network of two tasks
    old-bundle/     a bundle of an older ocl-edge
    frames/ images/ drive/    the same six small pictures, frame_00.png to frame_05.png
    drive.mp4       the same pictures
    drive.mcap      the same as images on /camera/image_raw
    labels/         class maps of those names
    labels-area/ labels-lanes/    those of two tasks
    map.json classes.json     for `evaluate`
    sweep.toml      the sweep of docs/sweeps.md, as printed there
    ocl-edge-demo/  bundle, frames and labels again, where `ocl-edge demo` leaves its own
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from ocl_edge.network.preprocess import InputSpec, Preprocessor
from tests.docs import docs_pages
from tests.doubles import two_tasks
from tests.doubles.bundles import unpack_old
from tests.doubles.ros_messages import IMAGE, START_NS, STEP_NS, cdr, image_message, write_mcap

FRAMES = 6
HEIGHT, WIDTH = 48, 64
CLASSES = 11
EXPORT = f"ocl-edge export model.pth --input-size {HEIGHT}x{WIDTH} --out bundle"
EXPORT_OF_TWO = (
    "ocl-edge export two_tasks.pth --arch two_tasks.py:twin --output area=0,lanes=1 --out two-tasks"
)
ARCH = f"net.py:build:classes={CLASSES},width=32"
PICTURES = ("frames", "images", "drive")


def printed_network() -> str:
    """The file net.py that docs/your-own-model.md prints."""
    printed = [
        s.text for s in docs_pages.python_blocks("docs/your-own-model.md") if s.text.startswith("# net.py")
    ]
    assert len(printed) == 1, "docs/your-own-model.md must print net.py once"
    return printed[0]


def printed_sweep() -> str:
    """The file sweep.toml that docs/sweeps.md prints."""
    _, _, after = docs_pages.read("docs/sweeps.md").partition("```toml\n")
    return after.partition("```")[0]


def furnish(directory: Path) -> None:
    """Put everything but the bundle into an empty directory."""
    (directory / "net.py").write_text(printed_network(), encoding="utf-8")
    generator = np.random.default_rng(0)
    (directory / "labels").mkdir()
    for name in PICTURES:
        (directory / name).mkdir()
    for index in range(FRAMES):
        coarse = generator.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
        for name in PICTURES:
            picture.save(directory / name / f"frame_{index:02d}.png")
        labels = generator.integers(0, CLASSES, (HEIGHT, WIDTH), dtype=np.uint8)
        Image.fromarray(labels).save(directory / "labels" / f"frame_{index:02d}.png")
        for task, values in (("area", labels % 2), ("lanes", labels // 6)):
            (directory / f"labels-{task}").mkdir(exist_ok=True)
            Image.fromarray(values).save(directory / f"labels-{task}" / f"frame_{index:02d}.png")
    _write_video(directory)
    _write_recording(directory)
    names = {"classes": [f"class_{index}" for index in range(CLASSES)], "ignore_index": 255}
    (directory / "classes.json").write_text(json.dumps(names))
    (directory / "map.json").write_text(json.dumps(list(range(CLASSES))))
    (directory / "drive.toml").write_text('bundle = "bundle"\nsource = "frames"\n')
    (directory / "sweep.toml").write_text(printed_sweep(), encoding="utf-8")
    _write_checkpoint(directory)
    shutil.copyfile(str(two_tasks.__file__), directory / "two_tasks.py")
    torch.save(two_tasks.trained("twin").state_dict(), directory / "two_tasks.pth")
    unpack_old(directory)


def copy_of(world: Path, directory: Path) -> Path:
    """A sandbox of its own for one page."""
    sandbox = Path(shutil.copytree(world, directory / "sandbox"))
    for name in ("bundle", "frames", "labels"):
        shutil.copytree(world / name, sandbox / "ocl-edge-demo" / name)
    return sandbox


def _write_video(directory: Path) -> None:
    with av.open(str(directory / "drive.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = WIDTH, HEIGHT
        for file in sorted((directory / "frames").iterdir()):
            frame = av.VideoFrame.from_image(Image.open(file))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _write_recording(directory: Path) -> None:
    files = sorted((directory / "frames").iterdir())
    messages = []
    for index, file in enumerate(files):
        rows = np.array(Image.open(file)).reshape(HEIGHT, -1)
        recorded_ns = START_NS + index * STEP_NS
        messages.append((recorded_ns, cdr(image_message(rows, stamp_ns=recorded_ns))))
    write_mcap(directory / "drive.mcap", {"/camera/image_raw": (IMAGE, messages)})


def _write_checkpoint(directory: Path) -> None:
    spec = importlib.util.spec_from_file_location("printed_net", directory / "net.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pictures = [np.array(Image.open(file)) for file in sorted((directory / "frames").iterdir())]
    spec_of_input = InputSpec(height=HEIGHT, width=WIDTH)
    images = torch.cat([Preprocessor(spec_of_input).single(picture) for picture in pictures])
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    network = module.build(classes=CLASSES, width=32)
    torch.random.set_rng_state(state)
    with torch.no_grad():
        for _ in range(50):  # far from these statistics, nothing would be learned from
            network(images)
    says = {"input_size": [HEIGHT, WIDTH]}
    torch.save({"state_dict": network.state_dict(), "ocl_edge": says}, directory / "model.pth")
