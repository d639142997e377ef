"""What networks do beside convolutions, one small network for each: cut anywhere, the parts are the whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from ocl_edge.errors import CaptureError, OclEdgeError, UsageError
from ocl_edge_export.parity_cases import finish
from ocl_edge_export.split import SplitNetwork, split_network
from ocl_edge_export.taken_output import TakenOutput, take_output
from tests.doubles.network_blocks import Step

SIZE = (32, 48)
CHANNELS, CLASSES = 8, 5
After = Callable[[Tensor, Tensor], object]


def enlarged(logits: Tensor, image: Tensor) -> Tensor:
    return F.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=False)


class Body(nn.Module):
    """Stem, ``middle``, ``head``; then ``after(logits, image)``."""

    def __init__(
        self,
        after: After = enlarged,
        head: nn.Module | None = None,
        middle: nn.Module | None = None,
        classes: int = CLASSES,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, CHANNELS, 3, 2, 1), nn.BatchNorm2d(CHANNELS), nn.ReLU(inplace=True)
        )
        self.middle = middle or nn.Identity()
        self.head = head or nn.Conv2d(CHANNELS, classes, 1)
        self.after = after

    def forward(self, image: Tensor) -> object:
        return self.after(self.head(self.middle(self.stem(image))), image)


class Attention(nn.Module):
    """torch's own layers, which ask for a layout of memory."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        seen = (
            self.layer(tokens, tokens, tokens)[0]
            if isinstance(self.layer, nn.MultiheadAttention)
            else self.layer(tokens)
        )
        return x + seen.transpose(1, 2).reshape(n, c, h, w)


class Cosine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CLASSES, CHANNELS, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return 9 * F.conv2d(F.normalize(x, dim=1), F.normalize(self.weight, dim=1))


class Prototypes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(CHANNELS, 6, 1)
        self.register_buffer("prototypes", torch.randn(CLASSES, 6))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,kc->nkhw", self.embed(x), self.prototypes)


class LinearHead(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        return super().forward(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(n, -1, h, w)


class Autocast(nn.Conv2d):
    def __init__(self, device: str) -> None:
        super().__init__(CHANNELS, CLASSES, 1)
        self.device = device

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(self.device, enabled=False):
            return super().forward(x.float())


class TwoClassifiers(Body):
    """Their logits are added, as in LRASPP; or one is used at two scales."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.other = self.head if shared else nn.Conv2d(CHANNELS, CLASSES, 1)

    def forward(self, image: Tensor) -> Tensor:
        fine = self.stem(image)
        return enlarged(self.other(fine) + enlarged(self.head(F.avg_pool2d(fine, 2)), fine), image)


class Auxiliary(Body):
    """A training head that runs after the main one, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.aux = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(CHANNELS, CLASSES, 1))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.stem(image)
        logits = enlarged(self.head(x), image)
        return {"out": logits, "aux": enlarged(self.aux(x * 2), image)}


def windows(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    t = x.view(n, c, h // 8, 8, w // 8, 8).permute(0, 2, 4, 3, 5, 1).reshape(-1, 64, c)
    t = t + torch.softmax(t @ t.transpose(1, 2) / c, -1) @ t
    return t.view(n, h // 8, w // 8, 8, 8, c).permute(0, 5, 1, 3, 2, 4).contiguous().view(n, c, h, w)


def in_place_on_views(x: Tensor) -> Tensor:
    x = x.clone()
    half = x[:, : CHANNELS // 2]
    half.mul_(2)
    x[:, -1].add_(1.0)
    return x


def ruled_out(value: float) -> After:
    def after(logits: Tensor, image: Tensor) -> Tensor:
        logits = enlarged(logits, image)
        logits[:, 0] = value
        return logits

    return after


def minus_prior(logits: Tensor, image: Tensor) -> Tensor:
    return enlarged(logits - torch.linspace(0, 1, CLASSES).view(1, -1, 1, 1), image)


def background_added(logits: Tensor, image: Tensor) -> Tensor:
    logits = enlarged(logits, image)
    return torch.cat((torch.zeros_like(logits[:, :1]), logits), 1)


def pruned() -> nn.Module:
    head = nn.Conv2d(CHANNELS, CLASSES, 1)
    prune.l1_unstructured(head, "weight", amount=0.5)
    return head


def without_gradients(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x * x.mean((2, 3), keepdim=True)


def slices_assigned(logits: Tensor, image: Tensor) -> Tensor:
    logits = enlarged(logits, image)
    logits[:, 0] = logits[:, 0] - 3
    logits[:, 1:3] *= 2
    return logits


def chosen_by_mask(logits: Tensor, image: Tensor) -> Tensor:
    logits = enlarged(logits, image)
    logits[logits < -1] = -1.0
    return logits


def largest_channel_marked(x: Tensor) -> Tensor:
    return x + F.one_hot(x.argmax(1), CHANNELS).permute(0, 3, 1, 2)


class NegativeRegions(nn.Module):
    """A mask with fewer dimensions than what it is laid on."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        x[x.mean((2, 3)) < 0] = 0.5
        return x


class TestAugmented(Body):
    """Averages the image and its mirror image inside."""

    def forward(self, image: Tensor) -> Tensor:
        both = self.head(self.stem(image)) + self.head(self.stem(image.flip(3))).flip(3)
        return enlarged(both / 2, image)


class Unpooled(nn.Module):
    """Pooling whose places are used again, as in ENet and SegNet."""

    def __init__(self) -> None:
        super().__init__()
        self.between = nn.Conv2d(CHANNELS, CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled, places = F.max_pool2d(x, 2, return_indices=True)
        return F.max_unpool2d(self.between(pooled), places, 2, output_size=x.shape[2:])


class Queries(Body):
    """A mask transformer's end: classes of queries times masks of queries, composed for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(7, CHANNELS))
        self.classes = nn.Linear(CHANNELS, CLASSES + 1)

    def forward(self, image: Tensor) -> Tensor:
        features = self.stem(image)
        masks = torch.einsum("qc,nchw->nqhw", self.queries, features).sigmoid()
        classes = self.classes(self.queries + features.mean((2, 3))[:, None]).softmax(-1)[..., :-1]
        return enlarged(torch.einsum("nqk,nqhw->nkhw", classes, masks) * 20, image)


def conv() -> nn.Module:
    return nn.Conv2d(CHANNELS, CLASSES, 1)


def encoder_layer() -> nn.Module:
    return nn.TransformerEncoderLayer(CHANNELS, 2, 16, batch_first=True)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, str]] = {
    # name: (network, classes of the output, where the head starts)
    "attention": (
        lambda: Body(middle=Attention(nn.MultiheadAttention(CHANNELS, 2, batch_first=True))),
        5,
        "head",
    ),
    "encoder layer": (lambda: Body(middle=Attention(encoder_layer())), 5, "head"),
    "windows": (lambda: Body(middle=Step(windows)), 5, "head"),
    "in place on views": (lambda: Body(middle=Step(in_place_on_views)), 5, "head"),
    "no gradients inside": (lambda: Body(middle=Step(without_gradients)), 5, "head"),
    "two classifiers": (lambda: TwoClassifiers(shared=False), 5, "other + head"),
    "one classifier, two scales": (lambda: TwoClassifiers(shared=True), 5, "other"),
    "auxiliary head": (Auxiliary, 5, "head"),
    "spectral norm": (lambda: Body(head=parametrizations.spectral_norm(conv())), 5, "head"),
    "weight norm": (lambda: Body(head=parametrizations.weight_norm(conv())), 5, "head"),
    "pruned": (lambda: Body(head=pruned()), 5, "head"),
    "cosine": (lambda: Body(head=Cosine()), 5, "head"),
    "prototypes": (lambda: Body(head=Prototypes()), 5, "head.embed"),
    "linear": (lambda: Body(head=LinearHead(CHANNELS, CLASSES)), 5, "head"),
    "autocast off, cpu": (lambda: Body(head=Autocast("cpu")), 5, "head"),
    "autocast off, cuda": (lambda: Body(head=Autocast("cuda")), 5, "head"),
    "class ruled out": (lambda: Body(ruled_out(-20.0)), 5, "head"),
    "class at -inf": (lambda: Body(ruled_out(-torch.inf)), 5, "head"),
    "prior subtracted": (lambda: Body(minus_prior), 5, "head"),
    "background added": (lambda: Body(background_added), 6, "head"),
    "pixel shuffle": (lambda: Body(lambda z, _: F.pixel_shuffle(z, 2), classes=12), 3, "head"),
    "two heads": (
        lambda: Body(lambda z, x: enlarged(torch.cat((z, z.flip(1)[:, :2]), 1), x)),
        7,
        "head",
    ),
    "temperature": (lambda: Body(lambda z, x: enlarged(z / 0.1, x)), 5, "head"),
    "gated by the image": (lambda: Body(lambda z, x: enlarged(z * x.mean((1, 2, 3), True), x)), 5, "head"),
    "odd scale": (lambda: Body(lambda z, _: F.interpolate(z, scale_factor=1.7, mode="bilinear")), 5, "head"),
    "orthogonal": (lambda: Body(middle=parametrizations.orthogonal(nn.Conv2d(8, 8, 1))), 5, "head"),
    "older spectral norm": (lambda: Body(head=nn.utils.spectral_norm(conv())), 5, "head"),
    "slices assigned": (lambda: Body(slices_assigned), 5, "head"),
    "chosen by mask": (lambda: Body(chosen_by_mask), 5, "head"),
    "mask of channels": (lambda: Body(middle=NegativeRegions()), 5, "head"),
    "random slope": (lambda: Body(middle=nn.RReLU()), 5, "head"),
    "sorted": (lambda: Body(middle=Step(lambda x: x.sort(1)[0])), 5, "head"),
    "one-hot": (
        lambda: Body(middle=Step(lambda x: x + F.one_hot(x.argmax(1), 8).permute(0, 3, 1, 2))),
        5,
        "head",
    ),
    "unpooled": (lambda: Body(middle=Unpooled()), 5, "head"),
    "mirror image inside": (TestAugmented, 5, "head"),
    "queries": (Queries, 5, "queries + classes"),
    "resized, then cropped": (
        lambda: Body(lambda z, x: F.interpolate(z, (40, 48), mode="bilinear")[:, :, 4:36]),
        5,
        "head",
    ),
}


def parts_of(
    network: nn.Module, wanted: str | None = None, threshold: float = 0.5
) -> tuple[TakenOutput, SplitNetwork, Tensor]:
    images = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    taken = take_output(network.eval(), images, wanted, threshold)
    return taken, split_network(taken.captured, "auto", taken.values, threshold), images


def whole_and_parts(
    network: nn.Module, wanted: str | None = None, threshold: float = 0.5
) -> tuple[Tensor, Tensor]:
    taken, split, images = parts_of(network, wanted, threshold)
    expected = torch.cat((taken.references[0].logits, taken.references[2].logits))
    with torch.no_grad():
        return expected, finish(split, tuple(split.backbone(images)), expected.shape)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_parts_are_the_whole(name: str) -> None:
    torch.manual_seed(0)
    build, classes, module = NETWORKS[name]
    network = build().eval()
    taken, split, images = parts_of(network)
    returned = network(images)
    expected = returned["out"] if isinstance(returned, dict) else returned
    with torch.no_grad():
        found = finish(split, tuple(split.backbone(images)), expected.shape)
    assert torch.allclose(found, expected, atol=1e-5), name
    assert (split.module, split.logits[0], taken.values) == (module, classes, "logits")
    split.head(*split.backbone(images))[0].nan_to_num(neginf=0).sum().backward()
    trained = [p.grad for p in split.head.parameters()]
    assert trained
    assert all(g is not None and bool(g.isfinite().all()) for g in trained)


def test_a_single_layer_still_is_one_operator_and_one_resize() -> None:
    """What engines run as a head, and what the runtime takes straight to the frame's size."""
    _, split, _ = parts_of(Body(head=Autocast("cpu")))
    calls = [n.target for n in split.head.graph.nodes if n.op == "call_function"]
    assert calls == [torch.ops.aten.conv2d.default]
    assert split.tail is None


def binary(after: After) -> nn.Module:
    torch.manual_seed(0)
    network = Body(after, classes=1).eval()
    with torch.no_grad():
        network.head.weight *= 20
        network.head.bias -= network.head(network.stem(torch.randn(2, 3, *SIZE))).median()
    return network


@pytest.mark.parametrize("threshold", [0.5, 0.2, 0.9])
@pytest.mark.parametrize(
    ("after", "values"),
    [
        (enlarged, "logits"),
        (lambda z, x: enlarged(z.sigmoid(), x), "probabilities"),
        (lambda z, x: enlarged(z, x).sigmoid(), "probabilities"),
        (lambda z, x: torch.maximum(enlarged(z, x).sigmoid(), enlarged(z - 1, x).sigmoid()), "probabilities"),
    ],
)
def test_one_channel_is_background_and_foreground(after: After, values: str, threshold: float) -> None:
    network = binary(after)
    taken, split, images = parts_of(network, threshold=threshold)
    with torch.no_grad():
        output = network(images)
        logits = split.head(*split.backbone(images))[0]
        mask = finish(split, tuple(split.backbone(images)), output.shape).argmax(1)
    probability = output if values == "probabilities" else output.sigmoid()
    assert taken.values == values
    assert (split.logits[0], taken.spec.threshold) == (2, threshold)
    assert bool(logits[:, 0].eq(0).all())
    assert torch.equal(mask, (probability[:, 0] > threshold).long())
    assert 0 < mask.float().mean() < 1
    assert torch.equal(taken.references[0].logits.argmax(1), mask[:1])


def test_the_loss_of_one_channel_is_that_of_the_two_class_softmax() -> None:
    """q = (1 - p, p) / |(1 - p, p)| with p = sigmoid(z), written out."""
    from ocl_edge.method.ocl import output_contrastive_loss

    network = binary(enlarged)
    _, split, images = parts_of(network)
    logits = split.head(*split.backbone(images))[0]
    loss = output_contrastive_loss(logits[:1], logits[1:].flip(3))
    z = network.head(network.stem(images)).double()
    p = torch.stack((z[0, 0].sigmoid(), z[1, 0].flip(1).sigmoid())).flatten(1)
    q = torch.stack((1 - p, p), 1) / (p**2 + (1 - p) ** 2).sqrt()[:, None]
    agreement = (q[0] * q[1]).sum(0).mean()
    spread = (q.mean(2) ** 2).sum(1).mean()
    assert float(loss) == pytest.approx(float(spread - 3 * agreement), abs=1e-5)
    loss.backward()
    gradient = next(p.grad for n, p in split.head.named_parameters() if n == "head.bias")
    assert gradient is not None
    (expected,) = torch.autograd.grad(spread - 3 * agreement, [network.head.bias])
    assert torch.allclose(gradient, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("after", "values"),
    [
        (lambda z, x: enlarged(z.softmax(1), x), "probabilities"),
        (lambda z, x: enlarged(z, x).softmax(1), "probabilities"),
        (lambda z, x: enlarged(z, x).log_softmax(1), "log-probabilities"),
        (lambda z, x: (enlarged(z, x).softmax(1) + enlarged(z.flip(1), x).softmax(1)) / 2, "probabilities"),
    ],
)
def test_the_loss_gets_logits_of_a_network_that_gives_probabilities(after: After, values: str) -> None:
    torch.manual_seed(0)
    network = Body(after).eval()
    taken, split, images = parts_of(network)
    with torch.no_grad():
        output = network(images)
        features = tuple(split.backbone(images))
        logits = split.head(*features)[0]
        assert torch.allclose(finish(split, features, output.shape), output, atol=1e-5)
    assert taken.values == values
    probabilities = output.exp() if values == "log-probabilities" else output
    if logits.shape == output.shape:
        assert torch.allclose(logits.softmax(1), probabilities, atol=1e-5)
    else:
        assert torch.allclose(logits, network.head(network.stem(images)), atol=1e-5)


@pytest.mark.parametrize(
    "after",
    [lambda z, _: z.argmax(1), lambda z, _: z.argmax(1, keepdim=True).float(), lambda z, _: z.max(1)[1]],
)
def test_class_maps_are_refused_with_advice(after: After) -> None:
    with pytest.raises(CaptureError, match=r"class map \(argmax inside forward\(\)\): return the logits"):
        parts_of(Body(after))


TUPLE: After = lambda z, x: (x.mean((2, 3)), [enlarged(z, x), enlarged(z[:, :3], x)])  # noqa: E731


@pytest.mark.parametrize(
    ("wanted", "name", "classes"), [(None, "1.0", 5), ("1.0", "1.0", 5), ("1.1", "1.1", 3), ("2", "1.1", 3)]
)
def test_an_output_is_chosen_and_the_others_are_named(wanted: str | None, name: str, classes: int) -> None:
    taken, split, _ = parts_of(Body(TUPLE), wanted)
    assert (taken.spec.name, split.logits[0]) == (name, classes)
    assert taken.spec.others.keys() == {"0", "1.0", "1.1"} - {name}
    assert taken.spec.others["0"] == (3,)


class Held:
    """An object of the user's own."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


@pytest.mark.parametrize(
    ("after", "wanted", "message"),
    [
        (TUPLE, "lanes", r"no output 'lanes'; it returns 0 \[1, 3\], 1\.0 \[1, 5, 32, 48\]"),
        (TUPLE, "0", r"expected logits .* got \[1, 3\] as output '0'"),
        (lambda z, _: {"a": z, "b": z}, None, r"several .*--output NAME: a \[1, 5, 16, 24\], b"),
        (lambda z, _: {"out": {"a": z, "b": z}}, None, r"several .*--output NAME: out\.a \[1, 5, .*, out\.b"),
        (
            lambda z, _: {"a": z[:, 0]},
            None,
            r"got \[1, 16, 24\] as output 'a': .* one class .* without squeeze",
        ),
        (lambda z, _: z[:, 0].squeeze(), None, r"got \[16, 24\]: a network of one class"),
        (lambda z, _: z.mean((2, 3)), None, r"got \[1, 5\]$"),
        (
            lambda z, _: Held(z),
            None,
            r"returns a Held, in which export finds no tensor: end forward\(\) with",
        ),
        (lambda z, _: (each for each in [z]), None, r"returns a generator, in which export finds no tensor"),
        (lambda _, __: {}, None, r"returns nothing \(dict\)"),
        (lambda z, _: None, None, "returns nothing"),
        (lambda z, _: torch.complex(z, z), None, "complex64, expected float32"),
        (lambda z, _: z.double(), None, "float64, expected float32"),
        (lambda z, _: z.bfloat16().float(), None, "computes in bfloat16"),
        (lambda z, _: z.flatten(1), None, "expected logits"),
        (lambda z, _: z.permute(0, 2, 3, 1), None, r"looks like \[N, H, W, classes\]: end forward\(\)"),
        (lambda z, _: None, None, "the network returns nothing"),
        (lambda z, _: z * torch.nan, None, "the network gives NaN for these images"),
        (
            lambda z, _: z.view(1, 5, 16, 24),
            None,
            r"two in a batch: .*\n  in .*test_kinds_of",
        ),
        (lambda z, _: exit(), None, r"it ends the program"),
    ],
)
def test_outputs_that_cannot_be_taken_are_explained(after: After, wanted: str | None, message: str) -> None:
    with pytest.raises(OclEdgeError, match=message):
        parts_of(Body(after), wanted)


@pytest.mark.parametrize("wanted", [None, "masks_queries_logits"])
def test_classes_and_masks_of_queries_are_no_scores(wanted: str | None) -> None:
    def queries(z: Tensor, _: Tensor) -> dict[str, Tensor]:
        return {"class_queries_logits": z.mean((2, 3))[:, None], "masks_queries_logits": z}

    with pytest.raises(CaptureError, match=r"is a mask transformer.*torch\.einsum"):
        parts_of(Body(queries), wanted)


def test_a_threshold_for_several_classes_is_refused() -> None:
    with pytest.raises(UsageError, match="--threshold belongs to networks with one channel; this one has 5"):
        parts_of(Body(), threshold=0.3)


def data_dependent(z: Tensor, x: Tensor) -> Tensor:
    return enlarged(z, x) if z.sum() > 0 else -enlarged(z, x)  # this line


def failing(z: Tensor, _: Tensor) -> Tensor:
    return z.view(1, 7)  # this line


@pytest.mark.parametrize("after", [data_dependent, failing])
def test_what_cannot_be_captured_names_the_users_own_line(
    after: After, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CaptureError, match=r"in .*test_kinds_of_networks\.py:\d+: .*# this line"):
        parts_of(Body(after))
    assert capfd.readouterr().err == ""


def traced() -> nn.Module:
    compiled: nn.Module = torch.jit.trace(Body().eval(), torch.rand(2, 3, *SIZE))
    return compiled


def scripted_inside() -> nn.Module:
    return Body(middle=torch.jit.script(nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1), nn.ReLU())))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(("make", "where"), [(traced, "the network itself"), (scripted_inside, "middle")])
def test_torchscript_is_named(make: Callable[[], nn.Module], where: str) -> None:
    with pytest.raises(CaptureError, match=f"Cause: {where} is TorchScript. Build the module"):
        parts_of(make())
