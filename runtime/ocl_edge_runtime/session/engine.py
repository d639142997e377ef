"""A bundle at work: frame in, mask out, then the update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ocl_edge.bundle.reading import Bundle, load_norms
from ocl_edge.errors import BundleError, UsageError
from ocl_edge.method.head import Head, TrainableHead
from ocl_edge.method.methods import find_method, ocl
from ocl_edge.method.norms import Prior, prior_of_channels
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.method.step import Update, adapt_step, views_for_the_tail
from ocl_edge.method.weights import AdaptedWeights, TrainableWeights
from ocl_edge.network.forms import BATCH_NORM, build_form
from ocl_edge.network.preprocess import Preprocessor
from ocl_edge.network.programs import load_program
from ocl_edge.network.tail import MOST_CLASSES, Tail
from ocl_edge.tensorrt.key import Precision
from ocl_edge.timings import Stopwatch
from ocl_edge_runtime.backends import open_backend
from ocl_edge_runtime.backends.base import Backend
from ocl_edge_runtime.session.engine_head import EngineHead
from ocl_edge_runtime.session.frames import FrameResult
from ocl_edge_runtime.session.updates import Outcome

Views = Literal["single", "pair"]
HeadKind = Literal["torch", "engine"]


@dataclass(frozen=True)
class EngineOptions:
    """How a bundle is run; None means the method's own default, then the bundle's.

    Attributes:
        method: a name of `ocl_edge.method.methods.METHODS`.
        views: ``pair`` averages the logits of the image and its flip. Methods that adapt
            always do; ``frozen`` takes a single view unless told otherwise.
        backend: ``auto`` or a name of `ocl_edge_runtime.backends.BACKENDS`.
        prior: weight of the source statistics, 0 to 1: of all norms, or of the first and the last
            with a straight line between them.
        lr: learning rate.
        restoration: probability that a weight returns to its source value after a step.
        seed: of the restoration.
        threads: for one operator of the backend.
        precision: of a compiled engine; None takes the newest valid one.
        head: ``torch`` trains it in PyTorch; ``engine`` runs its forward pass and its OCL
            step in the backend, as graphs that the bundle holds for a convolutional head.
    """

    method: str = "ocl-head"
    views: Views | None = None
    backend: str = "auto"
    prior: float | Prior | None = None
    lr: float | None = None
    restoration: float | None = None
    seed: int = 0
    threads: int | None = None
    precision: Precision | None = None
    head: HeadKind = "torch"

    def settings_over(self, of_bundle: AdaptationDefaults) -> AdaptationDefaults:
        """What the method adapts with: these options, else its own defaults, else the bundle's."""
        prior = (self.prior,) * 2 if isinstance(self.prior, float | int) else self.prior
        given = {"prior": prior, "lr": self.lr, "restoration": self.restoration}
        chosen = {name: value for name, value in given.items() if value is not None}
        return of_bundle.model_copy(update={**find_method(self.method).defaults, **chosen})


class Engine:
    """Runs one bundle with one method. Used from one thread at a time.

    `predict` gives the mask of a frame; `adapt`, called after the mask is out, updates
    on that same frame. `step` does both.

    Raises:
        UsageError: options that contradict each other.
        BundleError: a file of the bundle cannot be loaded.
        BackendError: the backend cannot run here.
    """

    def __init__(self, bundle: Bundle, options: EngineOptions | None = None) -> None:
        options = options or EngineOptions()
        self.bundle = bundle
        if len(bundle.manifest.classes) > MOST_CLASSES:
            raise BundleError(
                f"{bundle.path} has {len(bundle.manifest.classes)} classes; a mask has 8 bits, so "
                f"{MOST_CLASSES} is the most that can be run"
            )
        self.method = find_method(options.method)
        if self.method.modulates_norms and options.views == "single":
            raise UsageError(f"{self.method.name} works on the view pair; --views single goes with frozen")
        self.views: Views = options.views or ("pair" if self.method.modulates_norms else "single")
        self.settings = options.settings_over(bundle.manifest.adaptation)
        self.source = load_norms(bundle)
        self.watch = Stopwatch()
        tail = load_program(bundle.file("tail.pt2")) if "tail.pt2" in bundle.manifest.files else None
        self._tail = Tail(bundle.manifest.align_corners, tail)
        self._preprocessor = Preprocessor(bundle.manifest.input)
        self._prior = prior_of_channels([n.channels for n in bundle.manifest.norms], self.settings.prior)
        self._anchor = (
            {"anchor_statistics": self.source.statistics, "anchor_weight": self._prior}
            if bundle.manifest.norms
            else {}
        )
        self.head_kind = options.head
        self._options = options
        self._pair: tuple[list[Tensor], Tensor] | None = None
        self._network: nn.Module | None = None
        if self.method.needs_pytorch_backbone:
            self._open_network(options)
            return
        in_engine = options.head == "engine"
        choice = open_backend(bundle, options.backend, options.threads, options.precision, in_engine)
        self.passed_over, self.backend_name = choice.passed_over, choice.backend.name
        self.chosen_because = choice.because
        self._backend = choice.backend
        self.head: Head = self._open_head(choice.backend, options)
        self.weights: AdaptedWeights = self.head

    def _open_head(self, backend: Backend, options: EngineOptions) -> Head:
        if options.head == "torch":
            return TrainableHead(load_program(self.bundle.file("head.pt2")), self.settings, options.seed)
        if self.method.loss not in (None, ocl):
            raise UsageError(f"--head engine has the OCL as its loss; {self.method.name} needs --head torch")
        return EngineHead(self.bundle, backend, self.settings, options.seed)

    def _open_network(self, options: EngineOptions) -> None:
        """The measured form in PyTorch, where gradients reach the backbone."""
        if options.backend not in ("auto", "torch") or options.head != "torch":
            raise UsageError(
                f"{self.method.name} trains the backbone, which only --backend torch --head torch can"
            )
        head = TrainableHead(load_program(self.bundle.file("head.pt2")), self.settings, options.seed)
        self.head = head
        plain = load_program(self.bundle.file("backbone.pt2"))
        affine = {
            str(a.target) for n in plain.graph.nodes if n.target is BATCH_NORM for a in n.args[1:3] if a
        }
        self._network = build_form(plain, "measured", self.bundle.manifest.stat_rows)
        wanted = {
            f"backbone.{name}": parameter
            for name, parameter in self._network.named_parameters()
            if self.method.trains == "all" or name in affine
        }
        if not wanted:
            raise UsageError(
                f"{self.method.name} trains weight and bias of BatchNorm layers, and this backbone has none"
            )
        for name, parameter in self._network.named_parameters():
            parameter.requires_grad_(f"backbone.{name}" in wanted)
        if self.method.trains == "all":
            wanted |= {f"head.{name}": parameter for name, parameter in head.parameters.items()}
        self.weights = TrainableWeights(wanted, self.settings, options.seed)
        self.passed_over, self.backend_name, self.chosen_because = {}, "torch", ""

    def predict(self, image: NDArray[np.uint8], arrived_at: float | None = None) -> NDArray[np.uint8]:  # noqa: ARG002
        """The mask of an image, before any update on it.

        Args:
            image: uint8 [H, W, 3], RGB.
            arrived_at: when the frame was there; only realtime mode looks at it.

        Returns:
            uint8 [H, W], class indices.

        Raises:
            FrameError: the image is of another dtype or shape.
        """
        self.watch.start()
        pair = self.views == "pair"
        views = self._preprocessor.pair(image) if pair else self._preprocessor.single(image)
        self.watch.lap("preprocess")
        features = self._features(views)
        self.watch.lap("backbone")
        with torch.set_grad_enabled(self.method.loss is not None):
            logits = self.head.logits(features)
        self._pair = (features, logits) if self.method.loss is not None else None
        of_probabilities = self.bundle.manifest.output.values == "probabilities"
        averaged = views_for_the_tail(logits, of_probabilities) if pair else logits.detach()
        self.watch.lap("head")
        mask = self._tail.mask(averaged, image.shape[0], image.shape[1])
        self.watch.lap("tail")
        return mask

    def _features(self, views: Tensor) -> list[Tensor]:
        if self._network is not None:
            outputs: tuple[Tensor, ...] = self._network(views, *self._anchor.values())
            return list(outputs[: len(self.bundle.manifest.features)])
        form: Literal["measured", "plain"] = "measured" if self.method.modulates_norms else "plain"
        extra = self._anchor if self.method.modulates_norms else {}
        named = self._backend.infer(form, {"image": views, **extra})
        return [named[f"features_{index}"] for index in range(len(self.bundle.manifest.features))]

    def adapt(self) -> Update | None:
        """Update on the frame of the last `predict`; None where there is nothing to adapt on."""
        if self._pair is None or self.method.loss is None:
            return None
        (features, logits), self._pair = self._pair, None
        self.watch.resume()
        if isinstance(self.weights, TrainableWeights):
            return adapt_step(self.weights, logits, self.method.loss, self.watch)
        return self.head.adapt(features, self.method.loss, self.watch)

    def step(self, image: NDArray[np.uint8]) -> FrameResult:
        """`predict` and `adapt` in one call."""
        mask = self.predict(image)
        return self.result(mask, self.adapt())

    def result(self, mask: NDArray[np.uint8], update: Update | None) -> FrameResult:
        """What the last frame gave."""
        timings = self.watch.timings_ms()
        if update is None:
            return FrameResult(mask, timings, reason="nothing trains")
        return FrameResult(mask, timings, update.applied, update.reason, update.loss)

    def settle(self) -> Outcome | None:
        """Take in what is still going on in the background; only realtime mode has that."""
        return None

    def facts(self) -> dict[str, Any]:
        """What ran, for reports: everything that the results depend on."""
        return {
            "bundle": self.bundle.identity,
            "method": self.method.name,
            "views": self.views,
            "backend": self.backend_name,
            "head": self.head_kind,
            "settings": self.settings.model_dump(mode="json"),
            "seed": self._options.seed,
            "threads": self._options.threads,
            "precision": self._options.precision,
            "weights_sha256": self.weights.weights_sha256(),
            "weights_distance": self.weights.distance_from_source(),
        }

    def close(self) -> None:
        """Free the backend."""
        if self._network is None:
            self._backend.close()
