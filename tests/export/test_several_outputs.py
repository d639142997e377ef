"""Several outputs of one network: a head for each, over one backbone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ocl_edge.bundle.manifest import MANIFEST
from ocl_edge.bundle.reading import Bundle, load_backbone, load_head, load_tail
from ocl_edge.errors import BundleError, CaptureError, ParityError, SplitError, UsageError
from ocl_edge_export import pipeline
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_export.taken_output import take_outputs
from tests.doubles import two_tasks
from tests.doubles.two_tasks import HEIGHT, NETWORKS, WIDTH, export_tasks

Exported = tuple[str, dict[str, Bundle]]
IMAGES = torch.randn(3, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module", params=NETWORKS)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, Bundle]]:
    return request.param, export_tasks(tmp_path_factory.mktemp(request.param), request.param)


def masks_of_the_network(name: str, images: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        returned = two_tasks.trained(name)(images)
    if name == "one_feature":
        return {task: logits.argmax(1) for task, logits in returned.items()}
    if name == "twin":
        return {"area": returned[0].argmax(1), "lanes": returned[1].argmax(1)}
    return {"area": returned[1].argmax(1), "lanes": (returned[2] >= 0.5).long()[:, 0]}


def mask_of_the_parts(bundle: Bundle, images: Tensor) -> Tensor:
    manifest = bundle.manifest
    with torch.no_grad():
        features = load_backbone(bundle)(images)
        logits = load_head(bundle)(*(features[index] for index in manifest.read_by_head))[0]
        tail = load_tail(bundle)
        return torch.stack([torch.from_numpy(tail.mask(each[None], HEIGHT, WIDTH)) for each in logits])


def test_each_output_gives_the_networks_own_mask(exported: Exported) -> None:
    name, bundles = exported
    assert list(bundles) == ["area", "lanes"]
    for task, expected in masks_of_the_network(name, IMAGES).items():
        mask = mask_of_the_parts(bundles[task], IMAGES)
        assert (mask != expected).float().mean() <= 1e-3
        assert len(mask.unique()) > 1, "every class wins somewhere, or equal masks prove nothing"


def test_what_both_heads_read_crosses_once(exported: Exported) -> None:
    name, bundles = exported
    area, lanes = bundles["area"].manifest, bundles["lanes"].manifest
    assert area.features == lanes.features
    assert len(area.features) == (1 if name == "one_feature" else 2)
    assert {*area.read_by_head, *lanes.read_by_head} == set(range(len(area.features)))


def test_weights_and_norms_are_those_of_a_single_export(exported: Exported, tmp_path: Path) -> None:
    name, bundles = exported
    wanted = {"area": "0", "lanes": "1"} if name == "twin" else {"area": "1", "lanes": "2"}
    for task, position in ({"area": "area", "lanes": "lanes"} if name == "one_feature" else wanted).items():
        (single,) = export_tasks(tmp_path / task, name, position).values()
        ours = bundles[task].manifest
        assert (ours.head_module, ours.head_parameters) == (
            single.manifest.head_module,
            single.manifest.head_parameters,
        )
        assert ours.adaptation.lr == pytest.approx(single.manifest.adaptation.lr, rel=1e-3)
        assert ours.head_features == single.manifest.features
        assert {norm.name for norm in single.manifest.norms} <= {norm.name for norm in ours.norms}


def test_a_bundle_of_several_is_refused_where_one_is_wanted(exported: Exported) -> None:
    path = exported[1]["area"].path
    with pytest.raises(BundleError, match=r"has the outputs area, lanes, .*bundle#area or .*bundle#lanes"):
        Bundle.open(path)
    assert Bundle.open(f"{path}#lanes") == exported[1]["lanes"]
    with pytest.raises(BundleError, match="has no output 'signs'; it has: area, lanes"):
        Bundle.open(f"{path}#signs")


def test_a_damaged_output_is_named(exported: Exported, tmp_path: Path) -> None:
    path = shutil.copytree(exported[1]["area"].path, tmp_path / "copy")
    written = json.loads((path / MANIFEST).read_text("utf-8"))
    for field, value, message in (
        ("head_inputs", [7], "head_inputs: expected different ones of"),
        ("head_inputs", [], "head_inputs"),
        ("stat_rows", 3, r"outputs\.lanes: expected of head_module"),
        ("classes", [{"name": "only", "colour": [0, 0, 0]}], "1 classes are named"),
    ):
        own = {**written["outputs"]["lanes"], field: value}
        changed = {**written, "outputs": {**written["outputs"], "lanes": own}}
        (path / MANIFEST).write_text(json.dumps(changed), "utf-8")
        with pytest.raises(BundleError, match=f"manifest.json is damaged: .*{message}"):
            Bundle.open_outputs(path)
    for outputs in (None, [], {}, {"../x": {}}, {"a": 1}):
        (path / MANIFEST).write_text(json.dumps({**written, "outputs": outputs}), "utf-8")
        with pytest.raises(BundleError, match=r"manifest\.json is damaged"):
            Bundle.open_outputs(path)


def test_a_bundle_of_one_output_has_none_by_name(small_bundle: Bundle) -> None:
    assert Bundle.open_outputs(small_bundle.path) == {"": small_bundle}
    written = json.loads((small_bundle.path / MANIFEST).read_text("utf-8"))
    assert written["schema_version"] == 4
    assert not {"outputs", "head_inputs"} & written.keys(), "earlier versions of ocl-edge read it, too"
    with pytest.raises(BundleError, match="no output 'area'; it has: one, without a name"):
        Bundle.open(f"{small_bundle.path}#area")


class Returns(nn.Module):
    """What a test wants of an image."""

    def __init__(self, what: object) -> None:
        super().__init__()
        self.conv, self.other, self.what = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 4, 1), what

    def forward(self, image: Tensor) -> object:
        return self.what(self.conv(image), self.other)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("what", "wanted", "error", "message"),
    [
        (lambda x, f: (f(x), x), "area=0,signs=7", UsageError, "no output '7'"),
        (lambda x, f: (f(x), x), "area=0,area=1", UsageError, "every output and every name"),
        (
            lambda x, f: (f(x), x),
            "area=0,lanes=0",
            UsageError,
            "every output and every name",
        ),
        (lambda x, f: (f(x), x), "a/b=0,lanes=1", UsageError, "'a/b' cannot name files"),
        (lambda x, f: (f(x), x), "area=,lanes=1", UsageError, "NAME=OUTPUT"),
        (lambda x, f: {"a b": f(x), "c": x}, "all", UsageError, "'a b' cannot name files"),
        (lambda x, f: f(x), "all", UsageError, r"all is for several outputs.*one tensor \[1, 4, 48, 64\]"),
        (lambda x, f: (f(x), x.argmax(1, keepdim=True)), "all", CaptureError, "class map"),
        (lambda x, f: (f(x), x.mean((2, 3))), "area=0,kind=1", CaptureError, r"got \[1, 4\]"),
    ],
)
def test_outputs_that_cannot_be_taken_are_explained(
    what: object, wanted: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        take_outputs(Returns(what).eval(), IMAGES[:1], wanted)


def test_a_threshold_without_a_channel_is_refused() -> None:
    with pytest.raises(UsageError, match="this one has 4 and 4"):
        take_outputs(Returns(lambda x, f: (f(x), x)).eval(), IMAGES[:1], "all", 0.3)


class CannotBeCut(nn.Module):
    """The second output has no weights on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 1, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(F.relu(image)), F.avg_pool2d(image, 3, 1, 1)


def cannot_be_cut() -> nn.Module:
    return CannotBeCut()


def request_of(directory: Path, function: str, network: nn.Module, **options: object) -> ExportRequest:
    torch.save(network.state_dict(), directory / "network.pth")
    return ExportRequest(
        directory / "network.pth",
        directory / "bundle",
        arch=f"{Path(__file__)}:{function}",
        input_size=(HEIGHT, WIDTH),
        output="all",
        **options,  # type: ignore[arg-type]
    )


def test_an_output_that_cannot_be_cut_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match=r"^output 1: the network has no layer with weights"):
        export_bundle(request_of(tmp_path, "cannot_be_cut", CannotBeCut()))
    assert [file.name for file in tmp_path.iterdir()] == ["network.pth"]


def test_an_output_that_fails_the_gate_is_named_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(network: fx.GraphModule, *rest: object) -> object:
        captured, taken = take_outputs(network, *rest)  # type: ignore[arg-type]
        for reference in taken["1"].references:
            reference.logits.neg_()
        return captured, taken

    monkeypatch.setattr(pipeline, "take_outputs", spoiled)
    request = request_of(tmp_path, "twin", two_tasks.trained("twin"))
    with pytest.raises(ParityError, match=r"^output 1: the exported form 'plain' differs"):
        export_bundle(ExportRequest(**{**vars(request), "arch": f"{Path(two_tasks.__file__)}:twin"}))
    assert [file.name for file in tmp_path.iterdir()] == ["network.pth"]


def test_a_split_is_for_one_output(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--split is for one output"):
        export_bundle(request_of(tmp_path, "cannot_be_cut", CannotBeCut(), split="conv"))


def test_classes_are_named_for_each_output(tmp_path: Path) -> None:
    (tmp_path / "lanes.txt").write_text("road\nlane\n", "utf-8")
    torch.save(two_tasks.trained("one_feature").state_dict(), tmp_path / "network.pth")
    export_bundle(
        ExportRequest(
            tmp_path / "network.pth",
            tmp_path / "bundle",
            arch=f"{Path(two_tasks.__file__)}:one_feature",
            input_size=(HEIGHT, WIDTH),
            output="all",
            classes={"lanes": tmp_path / "lanes.txt"},
        )
    )
    bundles = Bundle.open_outputs(tmp_path / "bundle")
    assert [each.name for each in bundles["lanes"].manifest.classes] == ["road", "lane"]
    assert len(bundles["area"].manifest.classes) == 4
