"""A Graph as an ONNX file of opset 20, the first whose AffineGrid and GridSample are as ours."""

from pathlib import Path
from typing import Any

import numpy as np

from ministn.data import Form
from ministn.errors import UserError, check_kind
from ministn.files import check_output, write_atomically
from ministn.interop.extras import needed
from ministn.interop.graph import Graph, Node
from ministn.interop.trace import traced
from ministn.models import Network

OPSET, IR = 20, 9
TO_THE_END = np.iinfo(np.int64).max
SAME = {  # whose inputs and options are ONNX's
    "Abs", "Add", "Div", "Less", "MatMul", "Mul", "Relu", "Sigmoid", "Sub", "Tanh", "Where",
}  # fmt: skip


def to_onnx(network: Network, path: Path, form: Form) -> None:
    """Write the network, in evaluation and float32: x (N, C, H, W) -> y, for any number of images.

    Its weights have its parameters' names, "classifier/conv1/weight". Volumes are (N, 1, D, H, W),
    and so is a y that is a map (N, C, H, W). form: of the images for which the network was built.

    Raises UserError where onnx is missing or nothing can be written, and as interop.trace.traced
    does.
    """
    check_kind("path", path, str, Path)
    check_output(Path(path))
    write_atomically(Path(path), model_of(network, form).SerializeToString())


def model_of(network: Network, form: Form) -> Any:
    """What ``to_onnx`` writes, an onnx.ModelProto. Raises as it does."""
    onnx = needed("onnx")
    model = _Writer(onnx, traced(network, form, np.float32)).model()
    onnx.checker.check_model(model, full_check=True)
    return model


def from_onnx(network: Network, path: Path, form: Form) -> None:
    """Give the network the values of a file that ``to_onnx(network, path, form)`` wrote.

    Of the file only weights are read. Raises UserError for a file that cannot be read and for a
    weight that is missing or of another shape; nothing is written then.
    """
    check_kind("path", path, str, Path)
    onnx = needed("onnx")
    try:
        model = onnx.load_model_from_string(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except needed("google.protobuf.message").DecodeError as error:
        raise UserError(f"{path} is not a readable ONNX file") from error
    found = {one.name: one for one in model.graph.initializer}
    graph = traced(network, form)
    # What else is there are the operations' constants.
    weights = {
        name: onnx.numpy_helper.to_array(one)
        for name, one in found.items()
        if name in graph.weights
    }
    graph.load(weights, str(path))


class _Writer:
    """Turns operations into nodes; some need sizes as inputs, or several nodes."""

    def __init__(self, onnx: Any, graph: Graph) -> None:
        self.onnx, self.graph = onnx, graph
        self.nodes: list[Any] = []
        self.arrays = graph.values() | graph.constants
        self.called: dict[str, str] = {}  # names of what is left out

    def model(self) -> Any:
        helper, kind = self.onnx.helper, self.onnx.TensorProto.FLOAT
        for node in self.graph.nodes:
            self.write(node)
        output = self.called.get(self.graph.output, self.graph.output)
        self.nodes.append(helper.make_node("Identity", [output], ["y"]))
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        graph = helper.make_graph(
            self.nodes,
            "ministn",
            [helper.make_tensor_value_info("x", kind, ["N", *self.graph.input_shape])],
            [helper.make_empty_tensor_value_info("y")],
            [
                self.onnx.numpy_helper.from_array(
                    array.astype(np.float32) if array.dtype.kind == "f" else array, name
                )
                for name, array in arrays.items()
            ],
        )
        model = helper.make_model(
            graph,
            producer_name="ministn",
            ir_version=IR,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )
        return self.onnx.shape_inference.infer_shapes(model)

    def write(self, node: Node) -> None:
        """One operation."""
        name, options = node.operation, node.options
        inputs = [self.called.get(one, one) for one in node.inputs]
        if name in SAME:
            self.add(name, inputs, node.output)
        elif name == "Dropout":
            self.called[node.output] = inputs[0]
        else:
            getattr(self, f"write_{name}")(inputs, node.output, **options)

    def add(self, name: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(
            self.onnx.helper.make_node(name, inputs, [output], name=output, **attributes)
        )
        return output

    def numbers(self, *numbers: int) -> str:
        """Whole numbers as an input."""
        name = f"numbers {' '.join(map(str, numbers))}"
        self.arrays[name] = np.array(numbers, np.int64)
        return name

    def size(self, like: str, output: str, *others: int) -> str:
        """(N, *others), N the rows of ``like``."""
        rows = self.add("Shape", [like], f"{output}/rows", start=0, end=1)
        return self.add("Concat", [rows, self.numbers(*others)], f"{output}/size", axis=0)

    def write_AffineGrid(self, inputs: list[str], output: str, size: tuple[int, ...]) -> None:
        whole = self.size(inputs[0], output, 1, *size)
        self.add("AffineGrid", [*inputs, whole], output, align_corners=1)

    def write_AveragePool(self, inputs: list[str], output: str, size: int, volume: bool) -> None:
        sides = [size] * (3 if volume else 2)
        self.add("AveragePool", inputs, output, kernel_shape=sides, strides=sides)

    def write_Concat(self, inputs: list[str], output: str, axis: int) -> None:
        self.add("Concat", inputs, output, axis=axis)

    def write_Conv(
        self, inputs: list[str], output: str, margin: tuple[int, int], stride: int
    ) -> None:
        self.add("Conv", inputs, output, pads=[*margin, *margin], strides=[stride, stride])

    def write_Gemm(self, inputs: list[str], output: str) -> None:
        self.add("Gemm", inputs, output, transB=1)

    def write_GridSample(self, inputs: list[str], output: str, mode: str, border: str) -> None:
        self.add("GridSample", inputs, output, mode=mode, padding_mode=border, align_corners=1)

    def write_LeakyRelu(self, inputs: list[str], output: str, slope: float) -> None:
        self.add("LeakyRelu", inputs, output, alpha=slope)

    def write_MaxPool(self, inputs: list[str], output: str, size: int, stride: int) -> None:
        self.add("MaxPool", inputs, output, kernel_shape=[size] * 2, strides=[stride] * 2)

    def write_Mean(self, inputs: list[str], output: str, axis: int) -> None:
        self.add("ReduceMean", [*inputs, self.numbers(axis)], output, keepdims=0)

    def write_Repeated(self, inputs: list[str], output: str) -> None:
        one, rows = inputs
        size = self.size(rows, output, *self.arrays[one].shape[1:])
        self.add("Expand", [one, size], output)

    def write_Reshape(self, inputs: list[str], output: str, to: tuple[int, ...]) -> None:
        self.add("Reshape", [*inputs, self.numbers(*to)], output)

    def write_Slice(
        self, inputs: list[str], output: str, axis: int, start: int, end: int | None
    ) -> None:
        bounds = self.numbers(start), self.numbers(TO_THE_END if end is None else end)
        self.add("Slice", [*inputs, *bounds, self.numbers(axis)], output)

    def write_Transpose(self, inputs: list[str], output: str, axes: tuple[int, ...]) -> None:
        self.add("Transpose", inputs, output, perm=axes)
