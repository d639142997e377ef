"""What a manifest is made of: graphs, norms, classes, outputs, home, a fleet."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ocl_edge.network.form_names import HEAD_GRAPHS
from ocl_edge.network.preprocess import Byte

MOST_FLEET_HEADS = 16

PlainName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")]
"""Of a file beside the manifest: no separator, no parent, nothing that a shell or a terminal reads."""

Text = Annotated[str, Field(max_length=2000)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=1, le=1 << 24)]
FreeSize = Annotated[int, Field(ge=-1, le=1 << 24)]
Distance = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Shape = Annotated[tuple[FreeSize, ...], Field(max_length=8)]


class Strict(BaseModel):
    """Frozen, and without fields that nobody knows."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(Strict):
    """Name, dtype and shape of a graph's input or output; -1 is a free size (the batch; see docs)."""

    name: PlainName
    dtype: Literal["float32"] = "float32"
    shape: Shape


class FormSpec(Strict):
    file: PlainName
    inputs: tuple[TensorSpec, ...] = Field(min_length=1, max_length=100)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1, max_length=100)


class HeadGraphs(Strict):
    """The head as graphs whose weights are inputs: what ``--head engine`` runs.

    Attributes:
        parameters: ``weight`` and ``bias`` of the graphs -> names in the head.
        graphs: ``head`` (forward) and ``head_step`` (one OCL step).
    """

    parameters: dict[str, Text]
    graphs: dict[str, FormSpec]

    @model_validator(mode="after")
    def _complete(self) -> HeadGraphs:
        if set(self.parameters) not in ({"weight"}, {"weight", "bias"}):
            raise ValueError(f"expected a weight and perhaps a bias, got {', '.join(self.parameters)}")
        if set(self.graphs) != set(HEAD_GRAPHS):
            raise ValueError(f"expected the graphs {', '.join(HEAD_GRAPHS)}, got {', '.join(self.graphs)}")
        return self


class NormSpec(Strict):
    """A norm of the backbone.

    Attributes:
        sensing: no other norm feeds it (`ocl_edge.method.home`); None in bundles that were exported before
            this was stored.
    """

    name: Text
    channels: Size
    pinned: bool = False
    sensing: bool | None = None


class ClassSpec(Strict):
    name: Text
    colour: tuple[Byte, Byte, Byte]


class FileSpec(Strict):
    sha256: Sha256
    bytes: int = Field(ge=0, le=1 << 45)


class FormParity(BaseModel):
    """What `inspect` shows of a form's differences; there may be more."""

    features_relative: float
    logits_relative: float
    class_disagreement: float


class Parity(BaseModel):
    """What `inspect` shows of the parity report; there may be more."""

    images: int
    images_from: Text
    forms: dict[Text, FormParity] = Field(max_length=100)


class OutputSpec(Strict):
    """Which output of the network the bundle gives, and what its numbers are.

    Attributes:
        name: keys and positions on the way to it, with dots between; empty where there is one.
        others: outputs that were not taken, name -> shape for one image.
        values: what the network gives; the loss always gets logits.
        threshold: where the network has one channel: the probability from which a pixel is
            foreground, class 1. None: the strongest class wins.
    """

    name: Text = ""
    others: dict[Text, Annotated[tuple[Size, ...], Field(max_length=7)]] = Field({}, max_length=1000)
    values: Literal["logits", "probabilities", "log-probabilities"] = "logits"
    threshold: float | None = Field(None, gt=0, lt=1)


class Quantiles(Strict):
    """10 %, 50 % and 90 % of what was measured, frame by frame."""

    low: Finite
    median: Finite
    high: Finite


class HeadRate(Strict):
    """Whether the head earns its place, found on corrupted home frames.

    Attributes:
        lr: learning rate; 0: the head stays as trained.
        entropy_ratio: largest that its updates on the copies reached, up or down; None in older bundles.
        gains: for each corruption, points of agreement with the frozen network's sure pixels of the clean
            frame that the head gains at this rate (the best one, where none is good enough).
    """

    lr: float = Field(ge=0, le=1e6)
    gains: dict[Text, Finite] = Field(max_length=100)
    entropy_ratio: float | None = Field(None, ge=1, le=1e6)


LEARNED = 1.0
"""Fullness of learned weights; no fit is taken so fully."""


class HomeSpec(Strict):
    """What unlabelled frames have shown of home (``ocl-edge calibrate``).

    Attributes:
        file: of the tensors (`ocl_edge.bundle.home`).
        frames: how many were used.
        at_home: whether the sensing norms find them at home; if not, they serve for the weights alone.
        distance: of the frames from home, as the sensing norms see it.
        confidence: mean probability of the strongest class.
        loss: OCL of each frame.
        fullness: share that was taken of the fitted weights; 0: they are those of the default prior,
            `LEARNED`: learned. Without norms: of the way that the head's input is moved home.
        home_distances: of all norms at openings 0, 0.5 and 1: home's quantile.
        copies_distances: `statistics_distance` of corrupted copies, nearly the largest: unmixed, wide open.
        noise_distance: as in the manifest, with these weights; None without norms.
        jump: distance of statistics from their running average that is another scene.
        head: see `HeadRate`; None where it was not judged.
        features_distance: of the head's input from its mean over the frames, in deviations from frame to
            frame (`ocl_edge.method.head_input`); None in older bundles.
    """

    file: PlainName = "home.safetensors"
    frames: int = Field(ge=1, le=1 << 20)
    at_home: bool
    distance: Quantiles
    confidence: Quantiles
    loss: Quantiles
    fullness: float = Field(ge=0, le=1)
    home_distances: tuple[Distance, Distance, Distance] | None = None
    copies_distances: tuple[Distance, Distance] | None = None
    noise_distance: tuple[Distance, Distance] | None = None
    jump: Distance | None = None
    head: HeadRate | None = None
    features_distance: Quantiles | None = None

    @property
    def fitted(self) -> bool:
        """Whether the weights are fitted."""
        return self.fullness > 0


class FleetSpec(Strict):
    """What a fleet has learned (``ocl-edge fleet``).

    Attributes:
        network: identity of the bundle that the fleet began with.
        version: counts what the server has published; a vehicle never takes a lower one.
        file: of the tensors (`ocl_edge.bundle.fleet`).
        vehicles: that each head comes from.
    """

    network: Sha256
    version: int = Field(ge=1, le=1 << 53)
    file: PlainName
    vehicles: tuple[Size, ...] = Field(min_length=1, max_length=MOST_FLEET_HEADS)
