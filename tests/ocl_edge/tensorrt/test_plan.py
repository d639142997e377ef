"""The plan of kernels, read from lines as TensorRT-RTX writes them."""

from __future__ import annotations

import pytest

from ocl_edge.tensorrt.plan import NodeCost, read_plan


def tensor(sides: str, kind: str = "Float") -> str:
    strides = "Strides: [1], StrideOrder: [0]"
    return f"{{ Name: __t, Dimensions: [{sides}], {strides}, Datatype: {kind}, Format: (x) }}"


def line(
    kind: str, inputs: str, outputs: str, constants: str = "", nodes: tuple[str, ...] = ("node_conv",)
) -> str:
    told = "".join(f"[ONNX Layer: {name}]" for name in nodes)
    return (
        f"Name: __k_myl0_3, LayerType: {kind}, Inputs: [ {inputs}], Constants: [ {constants}], "
        f"Outputs: [ {outputs}], TacticName: __k, StreamId: 0, Metadata: {told}"
    )


NODES = {"node_conv": NodeCost("level1.conv", 700), "node_prelu": NodeCost("", 32)}
CONV = line("correlation", tensor("-1,3,4,5"), tensor("-1,8,4,5", "Half"), tensor("8,3,3,3"))


def test_bytes_are_those_of_all_operands_at_a_batch_of_one() -> None:
    plan = read_plan(["Layers:", CONV], NODES)
    assert plan is not None
    (kernel,) = plan.kernels
    assert kernel.bytes == 3 * 4 * 5 * 4 + 8 * 4 * 5 * 2 + 8 * 3 * 3 * 3 * 4
    assert (kernel.kind, kernel.module, kernel.operations) == ("correlation", "level1.conv", 700)


def test_a_kernel_of_several_nodes_has_all_their_operations_and_the_first_known_module() -> None:
    joined = line("kgen", tensor("2"), tensor("2", "Bool"), nodes=("node_prelu", "node_conv", "unknown"))
    plan = read_plan([joined], NODES)
    assert plan is not None
    assert plan.kernels[0].module == "level1.conv"
    assert (plan.operations, plan.bytes) == (732, 2 * 4 + 2)


def test_waits_signals_and_shapes_are_no_kernels() -> None:
    lines = [line(kind, "", "") for kind in ("wait", "signal", "shape_call")]
    lines.append("Name: [copy 0], LayerType: ShapeHostToDevice, Inputs: [], Outputs: [], Metadata: ")
    plan = read_plan([*lines, CONV, *lines], NODES)
    assert plan is not None
    assert len(plan.kernels) == 1


def test_the_costliest_come_first() -> None:
    lines = [line("kgen", tensor(str(size)), tensor("1")) for size in (10, 1000, 100)]
    plan = read_plan(lines, {})
    assert plan is not None
    assert [kernel.bytes for kernel in plan.costliest(2)] == [4004, 404]


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["Engine generation completed in 4 seconds."],
        [CONV, line("kgen", tensor("1", "Complex"), tensor("1"))],
        [CONV, "Layer: conv, LayerType: kgen, Reads: image"],
    ],
    ids=["nothing", "no kernels", "a type of a later version", "words of a later version"],
)
def test_a_log_that_is_not_understood_whole_gives_no_plan(lines: list[str]) -> None:
    assert read_plan(lines, NODES) is None
