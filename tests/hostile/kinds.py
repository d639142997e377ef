"""What strangers may give: for each kind some good inputs, and the code of ours that reads it."""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import torch
from mcap.writer import CompressionType
from PIL import Image

from ocl_edge.bundle.reading import Bundle, load_head, load_head_weights, load_norms
from ocl_edge.images import read_class_map, read_image
from ocl_edge.method.head import TrainableHead
from ocl_edge_app.cli.views import show_bundle
from ocl_edge_export.checkpoint import load_network, read_checkpoint
from ocl_edge_runtime.backends import open_backend
from ocl_edge_runtime.clock import RealClock
from ocl_edge_runtime.records.state import STATE_FILE, StateStore, digest_of
from ocl_edge_runtime.records.tape import Tape
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.sources import SourceOptions, open_source
from tests.doubles import small_network
from tests.doubles.bundles import SMALL_ARCH
from tests.doubles.images import random_image
from tests.doubles.ros_messages import (
    IMAGE,
    START_NS,
    cdr,
    image_message,
    picture,
    pictures,
    write_directory,
    write_mcap,
)
from tests.doubles.videos import make_video
from tests.hostile.mutation import mutate_bytes, mutate_json


class Kind(ABC):
    """A kind of input.

    Args:
        place: an empty directory to work in.
        bundle: a good one.
    """

    def __init__(self, place: Path, bundle: Path) -> None:
        self.place = place
        self.bundle = bundle

    @abstractmethod
    def make(self, rng: random.Random) -> bytes:
        """A hostile input."""

    def warm_up(self) -> None:  # noqa: B027  (most need none)
        """Import and start what the first input would."""

    @abstractmethod
    def read(self, content: bytes) -> None:
        """What a user would do with it."""


class Images(Kind):
    """Frames and labels of every format."""

    def __init__(self, place: Path, bundle: Path) -> None:
        super().__init__(place, bundle)
        self.good = []
        for form in ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF", "GIF", "EPS"):
            for sample in (Image.fromarray(random_image(1)), Image.fromarray(random_image(2)[..., 0])):
                stream = io.BytesIO()
                sample.save(stream, format=form)
                self.good.append(stream.getvalue())

    def make(self, rng: random.Random) -> bytes:
        return mutate_bytes(rng.choice(self.good), rng)

    def read(self, content: bytes) -> None:
        file = self.place / "frame.png"
        file.write_bytes(content)
        (read_image if len(content) % 2 else read_class_map)(file)


class Videos(Kind):
    """Recordings in several containers."""

    def __init__(self, place: Path, bundle: Path) -> None:
        super().__init__(place, bundle)
        made = (("a.mp4", "mpeg4"), ("a.mkv", "ffv1"), ("a.avi", "mjpeg"), ("a.ts", "mpeg2video"))
        self.good = [make_video(place / name, codec).read_bytes() for name, codec in made]
        self.good.append(b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n")
        self.good.append(b"ffconcat version 1.0\nfile '/etc/passwd'\nfile 'a.mp4'\n")

    def make(self, rng: random.Random) -> bytes:
        return mutate_bytes(rng.choice(self.good), rng)

    def read(self, content: bytes) -> None:
        file = self.place / "drive.mp4"
        file.write_bytes(content)
        for _ in islice(open_source(str(file), SourceOptions(limit=20), RealClock()), 20):
            pass


class Bags(Kind):
    """Recordings of messages: MCAP in its compressions, databases, and the messages in them."""

    def __init__(self, place: Path, bundle: Path) -> None:
        super().__init__(place, bundle)
        topics = {"/camera": (IMAGE, pictures(4)), "/rear": (IMAGE, pictures(2))}
        made = [write_mcap(place / f"{way.name}.mcap", topics, way) for way in CompressionType]
        made.append(write_mcap(place / "open.mcap", topics, finish=False))
        made.append(write_directory(place / "bag", topics) / "bag.db3")
        self.good = [(file.suffix, file.read_bytes()) for file in made]
        self.encodings = ("rgb8", "mono16", "yuv422", "bayer_rggb8", "bgra8", "8UC1")

    def make(self, rng: random.Random) -> bytes:
        if rng.randrange(2):
            suffix, content = rng.choice(self.good)
            return suffix.encode() + b"\n" + mutate_bytes(content, rng)
        message = cdr(image_message(picture(1).reshape(24, -1), rng.choice(self.encodings)))
        messages = [(START_NS, mutate_bytes(message, rng)), (START_NS, message)]
        written = write_mcap(self.place / "made.mcap", {"/camera": (IMAGE, messages)})
        return b".mcap\n" + written.read_bytes()

    def read(self, content: bytes) -> None:
        suffix, _, changed = content.partition(b"\n")
        file = self.place / f"drive{suffix.decode()}"
        file.write_bytes(changed)
        for _ in open_source(f"{file}#/camera", SourceOptions(limit=20), RealClock()):
            pass


ODD_TENSORS: tuple[Callable[[torch.Tensor], object], ...] = (
    torch.Tensor.double,
    torch.Tensor.half,
    torch.Tensor.bool,
    lambda tensor: tensor.to(torch.complex64),
    lambda tensor: tensor.to_sparse(),
    lambda tensor: tensor.to("meta"),
    lambda tensor: tensor.flatten()[:1],
    lambda tensor: tensor.flatten()[:1].expand(1 << 20, 1 << 20),
    lambda tensor: tensor.double() * 1e300,
    lambda tensor: tensor.float() * float("nan"),
    lambda tensor: tensor.tolist(),
    lambda tensor: {"weight": tensor},
    lambda tensor: [tensor] * 1000,
    lambda _: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
    lambda _: torch.quantize_per_tensor(torch.zeros(2, 2), 0.1, 0, torch.qint8),
)


class Checkpoints(Kind):
    """Archives of PyTorch, and safetensors: by their bytes, and whole ones of odd contents."""

    def __init__(self, place: Path, bundle: Path) -> None:
        super().__init__(place, bundle)
        state = small_network.trained().state_dict()
        metadata = {"arch": "demo:classes=5,width=4", "input_size": [48, 64], "classes": list("abcde")}
        self.state, self.metadata = state, metadata
        self.good = []
        for content, legacy in (
            (state, False),
            ({"state_dict": state, "ocl_edge": metadata}, False),
            (state, True),
        ):
            stream = io.BytesIO()
            torch.save(content, stream, _use_new_zipfile_serialization=not legacy)
            self.good.append(stream.getvalue())

    def make(self, rng: random.Random) -> bytes:
        if rng.randrange(2):
            return mutate_bytes(rng.choice(self.good), rng)
        state: dict[str, object] = dict(self.state)
        for _ in range(rng.choice((0, 1, 2))):
            name = rng.choice(list(self.state))
            state[rng.choice((name, "x", "\udcff\x1b"))] = rng.choice(ODD_TENSORS)(self.state[name])
        content = {"state_dict": state, "ocl_edge": mutate_json(self.metadata, rng)}
        for _ in range(rng.choice((0, 0, 1, 5))):
            content = {str(index): content for index in range(rng.choice((1, 2, 100)))}
        stream = io.BytesIO()
        torch.save(content, stream, _use_new_zipfile_serialization=bool(rng.randrange(4)))
        return stream.getvalue()

    def read(self, content: bytes) -> None:
        file = self.place / "model.pth"
        file.write_bytes(content)
        load_network(read_checkpoint(file), SMALL_ARCH if len(content) % 3 else None)


class _OfABundle(Kind):
    """Files of a bundle whose hashes fit."""

    def __init__(self, place: Path, bundle: Path) -> None:
        super().__init__(place, bundle)
        self.copy = Path(shutil.copytree(bundle, place / "bundle"))
        self.manifest = json.loads((bundle / "manifest.json").read_text("utf-8"))

    def put(self, name: str, content: bytes) -> None:
        (self.copy / name).write_bytes(content)
        entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        manifest = {**self.manifest, "files": {**self.manifest["files"], name: entry}}
        (self.copy / "manifest.json").write_text(json.dumps(manifest))


class Manifests(_OfABundle):
    """The manifest: by its structure, and by its bytes."""

    def make(self, rng: random.Random) -> bytes:
        if rng.randrange(4) == 0:
            return mutate_bytes(json.dumps(self.manifest).encode(), rng)
        return json.dumps(mutate_json(self.manifest, rng)).encode()

    def read(self, content: bytes) -> None:
        (self.copy / "manifest.json").write_bytes(content)
        bundle = Bundle.open(self.copy)
        show_bundle(bundle)
        load_norms(bundle)
        load_head_weights(bundle)


class Tensors(_OfABundle):
    """norms.safetensors and weights.safetensors."""

    names: tuple[str, ...] = ("norms.safetensors", "weights.safetensors")

    def make(self, rng: random.Random) -> bytes:
        name = rng.choice(self.names)
        return name.encode() + b"\n" + mutate_bytes((self.bundle / name).read_bytes(), rng)

    def read(self, content: bytes) -> None:
        name, _, changed = content.partition(b"\n")
        for good in self.names:
            shutil.copy(self.bundle / good, self.copy)
        self.put(name.decode(), changed)
        bundle = Bundle.open(self.copy)
        load_norms(bundle)
        load_head_weights(bundle)
        frame = bundle.manifest.input
        backbone = open_backend(bundle, "torch").backend
        named = backbone.infer("plain", {"image": torch.zeros(1, 3, frame.height, frame.width)})
        TrainableHead(load_head(bundle), bundle.manifest.adaptation).logits(list(named.values()))


class Programs(Tensors):
    """Programs of the backbone and the head, by their structure and by their bytes."""

    names = ("backbone.json", "head.json")

    def make(self, rng: random.Random) -> bytes:
        name = rng.choice(self.names)
        good = (self.bundle / name).read_bytes()
        if rng.randrange(3) == 0:
            return name.encode() + b"\n" + mutate_bytes(good, rng)
        return name.encode() + b"\n" + json.dumps(mutate_json(json.loads(good), rng)).encode()


class Graphs(_OfABundle):
    """ONNX files, loaded by ONNX Runtime where our check lets them pass."""

    def make(self, rng: random.Random) -> bytes:
        return mutate_bytes((self.bundle / "backbone.plain.onnx").read_bytes(), rng)

    def warm_up(self) -> None:
        for name in ("onnxruntime", "openvino"):
            self._run((self.bundle / "backbone.plain.onnx").read_bytes(), name)

    def read(self, content: bytes) -> None:
        self._run(content, "onnxruntime" if len(content) % 4 else "openvino")

    def _run(self, content: bytes, name: str) -> None:
        self.put("backbone.plain.onnx", content)
        bundle = Bundle.open(self.copy)
        backend = open_backend(bundle, name, threads=1).backend
        height, width = bundle.manifest.input.height, bundle.manifest.input.width
        backend.infer("plain", {"image": torch.zeros(1, 3, height, width)})
        backend.close()


class States(_OfABundle):
    """Saved states: tensors by their bytes, facts by their structure, with the digest that fits."""

    def __init__(self, place: Path, bundle: Path) -> None:
        super().__init__(place, bundle)
        options = SessionOptions(backend="onnxruntime", threads=1)
        self.session = open_session(Bundle.open(bundle), options, RealtimeOptions(adapt_every=1))
        for index in range(4):
            self.session.step(random_image(index))
        self.store = StateStore(place / "state", self.session)
        self.tensors, self.facts = self.session.export_state()

    def make(self, rng: random.Random) -> bytes:
        facts = json.dumps(mutate_json(self.facts, rng) if rng.randrange(3) else self.facts)
        tensors = dict(self.tensors)
        if rng.randrange(2):
            name = rng.choice(list(tensors))
            tensors[rng.choice((name, "x"))] = rng.choice(
                (tensors[name].double(), tensors[name][:1], 0 * tensors[name])
            )
        from safetensors.torch import save

        tensors = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
        content = save(tensors, {"facts": facts, "sha256": digest_of(tensors, facts), "version": "1"})
        return mutate_bytes(content, rng) if rng.randrange(3) == 0 else content

    def read(self, content: bytes) -> None:
        (self.store.directory / STATE_FILE).write_bytes(content)
        self.store.resume("refuse")
        self.session.step(random_image(9))


class Tapes(Kind):
    """Recorded schedules."""

    def make(self, rng: random.Random) -> bytes:
        head = {"version": 1, "run": {"method": "ocl-head"}, "measured_at": 0.5, "begins_with": "0" * 64}
        frame = {"frame": 1, "arrived_at": 0.1, "measured": True, "granted": False, "taken_in": False}
        lines = [head, frame, {**frame, "frame": 2}, {"ends_with": "1" * 64}]
        at = rng.randrange(len(lines))
        lines[at] = mutate_json(lines[at], rng)
        content = "\n".join(json.dumps(line) for line in lines).encode()
        return mutate_bytes(content, rng) if rng.randrange(3) == 0 else content

    def read(self, content: bytes) -> None:
        file = self.place / "run.jsonl"
        file.write_bytes(content)
        Tape.read(file)


KINDS: dict[str, type[Kind]] = {
    "manifests": Manifests,
    "tensors": Tensors,
    "programs": Programs,
    "graphs": Graphs,
    "states": States,
    "tapes": Tapes,
    "images": Images,
    "videos": Videos,
    "checkpoints": Checkpoints,
    "bags": Bags,
}
