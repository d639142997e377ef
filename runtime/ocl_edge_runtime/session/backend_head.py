"""A head whose forward pass and step run in a backend, as compiled graphs.

Weights and momentum are inputs and outputs of the step's graph. They lie where the backend
computes, in two sets: a step reads one and writes the other, and the sets change places
when what it wrote is good. Nothing is copied, and a step that went wrong was never there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ocl_edge.bundle.reading import Bundle, load_head_weights
from ocl_edge.errors import BackendError, UsageError
from ocl_edge.method.head import Head
from ocl_edge.method.methods import ocl
from ocl_edge.method.settings import AdaptationDefaults
from ocl_edge.method.step import Loss
from ocl_edge.method.verdict import Reason, Verdict
from ocl_edge.network.form_names import HEAD_GRAPHS
from ocl_edge.tensorrt.flavours import FLAVOURS
from ocl_edge.tensors import Tensor, torch
from ocl_edge.timings import Stopwatch
from ocl_edge_runtime.backends.base import Backend, HeadBackend, shape_of

RATES = ("lr", "momentum", "weight_decay")
"""Settings that are inputs of the step's graph."""


class BackendHead(Head):
    """The head graphs of a bundle in a backend. Same names, state and restoration as `TrainableHead`.

    Args:
        bundle: with head graphs.
        backend: that runs them.
        settings: as for `AdaptedWeights`.
        seed: likewise.

    Raises:
        BundleError: the bundle has no head graphs.
        BackendError: the backend cannot run them.
    """

    def __init__(self, bundle: Bundle, backend: Backend, settings: AdaptationDefaults, seed: int = 0) -> None:
        names = bundle.require_head_graphs().parameters
        missing = [graph for graph in HEAD_GRAPHS if graph not in backend.describe()]
        if missing or not isinstance(backend, HeadBackend):
            graphs = ",".join(HEAD_GRAPHS)
            command = f"ocl-edge build {bundle.named} --backend {backend.name} --forms {graphs}"
            raise BackendError(
                f"the {backend.name} backend here cannot run {' and '.join(missing)}: "
                + (
                    f"build them: {command}"
                    if backend.name in FLAVOURS
                    else "--head torch, or another --backend"
                )
            )
        self._backend, self._names, self._device = backend, names, backend.head_device
        (self._logits,) = backend.describe()["head"].outputs
        source = load_head_weights(bundle)
        super().__init__({name: source[name].to(self._device) for name in names.values()}, settings, seed)
        self._now = {short: self.parameters[name] for short, name in names.items()}
        self._now |= {f"{short}_momentum": torch.zeros_like(self._now[short]) for short in names}
        self._next = {name: torch.empty_like(tensor) for name, tensor in self._now.items()}
        self._loss = torch.empty(1, device=self._device)
        self._places: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        self._fixed = {f"{short}_source": self.trained[name] for short, name in names.items()}
        for name in RATES:
            self._fixed[name] = torch.tensor([getattr(settings, name)], device=self._device)

    def follow(self, settings: AdaptationDefaults) -> None:
        super().follow(settings)
        for name in RATES:
            self._fixed[name].fill_(getattr(settings, name))

    def logits(self, features: Sequence[Tensor]) -> Tensor:
        """See `Head.logits`; on the CPU, without gradients, valid until the next call for the same size."""
        return self._forward(self.parameters, features, "logits")

    def trained_logits(self, features: Sequence[Tensor]) -> Tensor:
        """See `Head.trained_logits`; valid as long as those of `logits`."""
        return self._forward(self.trained, features, "trained logits")

    def is_pointwise(self, features: Sequence[Sequence[int]]) -> bool:  # noqa: ARG002
        """See `Head.is_pointwise`; the graph says so."""
        return self._logits.shape[2:] == (-1, -1)

    def adapt(
        self,
        features: Sequence[Tensor],
        loss_of: Loss,
        watch: Stopwatch,
        logits: Tensor | None = None,  # noqa: ARG002
    ) -> Verdict:
        """See `Head.adapt`; the graph's loss is the OCL.

        Raises:
            UsageError: ``loss_of`` is another loss.
        """
        if loss_of is not ocl:
            raise UsageError("the compiled head step has the OCL as its loss; --head torch takes any")
        generator = self.generator.get_state()
        masks = self.draw_restored()
        inputs = {f"{short}_restored": masks[name] for short, name in self._names.items()}
        inputs["features"] = features[0]
        self._backend.infer_into(
            "head_step",
            {
                **{name: self._staged(name, tensor) for name, tensor in inputs.items()},
                **self._now,
                **self._fixed,
            },
            {"loss": self._loss, **{f"new_{name}": tensor for name, tensor in self._next.items()}},
        )
        reason, loss = self._what_came_of_it(), self._loss.item()
        if reason is not Reason.ADAPTED:
            self.generator.set_state(generator)
        else:
            self._now, self._next = self._next, self._now
            self.parameters = {name: self._now[short] for short, name in self._names.items()}
        watch.lap("step")
        return Verdict(reason, loss)

    def _what_came_of_it(self) -> Reason:
        """Whether the step that was just computed is to be taken, or why not."""
        if not math.isfinite(self._loss.item()):
            return Reason.LOSS_NOT_FINITE
        momentum = (self._next[f"{short}_momentum"] for short in self._names)
        return (
            Reason.ADAPTED if all(bool(m.isfinite().all()) for m in momentum) else Reason.GRADIENT_NOT_FINITE
        )

    def forget_momentum(self) -> None:
        for short in self._names:
            self._now[f"{short}_momentum"].zero_()

    def momentum(self) -> dict[str, Tensor]:
        return {
            name: self._now[f"{short}_momentum"].to("cpu", copy=True) for short, name in self._names.items()
        }

    def load_momentum(self, momentum: Mapping[str, Tensor]) -> None:
        for short, name in self._names.items():
            self._now[f"{short}_momentum"].copy_(momentum[name])

    def _forward(self, weights: Mapping[str, Tensor], features: Sequence[Tensor], what: str) -> Tensor:
        inputs = {"features": self._staged("features", features[0])}
        inputs |= {short: weights[name] for short, name in self._names.items()}
        logits = self._place(what, shape_of(self._logits, tuple(features[0].shape)))
        self._backend.infer_into("head", inputs, {self._logits.name: logits})
        return logits.cpu()

    def _staged(self, name: str, tensor: Tensor) -> Tensor:
        return self._place(name, tuple(tensor.shape)).copy_(tensor)

    def _place(self, what: str, shape: tuple[int, ...]) -> Tensor:
        """Always the same one: a backend may keep a captured graph for every address that it meets."""
        place = self._places.get((what, shape))
        if place is None:
            place = self._places[what, shape] = torch.empty(shape, device=self._device)
        return place
