"""A module as one ONNX file."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes import common as passes
from onnxscript import optimizer
from torch import Tensor, nn

_OPSET = 18


def write_onnx(
    part: nn.Module,
    path: Path,
    inputs: dict[str, tuple[Tensor, dict[int, str]]],
    outputs: list[str],
    metadata: dict[str, str],
) -> None:
    """Write a module as an ONNX file.

    Weights are float16 in it if that loses nothing, as in weights made for release, and the graph widens them: a
    runtime does so once, when it loads the file.

    Args:
        part: The module.
        path: The file.
        inputs: For every argument of `forward`, in order, an example of at least 2 along every free axis, and the names
            of its free axes.
        outputs: Names of what it returns.
        metadata: Put into the file.
    """
    axes = {axis: torch.export.Dim(axis) for _, named in inputs.values() for axis in named.values()}
    program = torch.onnx.export(
        part.eval(),
        tuple(example for example, _ in inputs.values()),
        input_names=list(inputs),
        output_names=outputs,
        dynamic_shapes=tuple({place: axes[axis] for place, axis in named.items()} for _, named in inputs.values()),
        opset_version=_OPSET,
        dynamo=True,
        optimize=False,
        verbose=False,
    )
    assert program is not None  # with dynamo
    _simplify(program.model)
    _halve_weights(program.model.graph)
    for node in program.model.graph:
        node.metadata_props.clear()  # stack traces, a tenth of the file
    program.model.metadata_props.update(metadata)
    program.save(path, external_data=False)


def _simplify(model: ir.Model) -> None:
    """Work out what is constant and keep it once.

    This is what the export's own optimization does, without its rules that match constants to within 1e-8: they drop
    the addition of a smaller one, such as what keeps silence from being divided by zero.
    """
    optimizer.inline(model)
    optimizer.fold_constants(model, onnx_shape_inference=True)
    ir.passes.Sequential(
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedFunctionsPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.OutputFixPass(),
        passes.NameFixPass(),
    )(model)


def _halve_weights(graph: ir.Graph) -> None:
    """Keep float32 initializers as float16 where that loses nothing, each with a cast back to float32."""
    for name, weight in list(graph.initializers.items()):
        assert weight.const_value is not None
        values = weight.const_value.numpy()
        with np.errstate(over="ignore"):  # then it is not equal
            rounded = values.astype(np.float16)
        if values.dtype != np.float32 or not np.array_equal(rounded.astype(np.float32), values):
            continue
        half = ir.Value(name=f"{name}.float16", const_value=ir.tensor(rounded))
        half.shape, half.dtype = weight.shape, ir.DataType.FLOAT16
        cast = ir.Node("", "Cast", [half], [ir.AttrInt64("to", ir.DataType.FLOAT)])
        cast.outputs[0].name = f"{name}.float32"
        weight.replace_all_uses_with(cast.outputs[0])
        graph.insert_before(graph[0], cast)
        graph.initializers.pop(name)
        graph.register_initializer(half)
