"""A Graph as a torch.nn.Module whose forward is plain PyTorch: ``module.code`` shows it."""

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ministn.data import Form
from ministn.errors import check_kind
from ministn.interop.extras import needed
from ministn.interop.graph import Graph, Node
from ministn.interop.trace import traced
from ministn.models import Network

if TYPE_CHECKING:
    import torch


def to_torch(network: Network, form: Form) -> "torch.nn.Module":
    """A module that computes what the network computes: images (N, C, H, W) -> y.

    It has copies of the network's values, by its parameters' names: "classifier.conv1.weight". What
    the network shares the module shares, and both learn the same. It is in evaluation, as networks
    are without a Step; ``module.train()`` switches dropout on. Volumes are (N, 1, D, H, W), and so
    is a y that is a map (N, C, H, W).

    form: of the images for which the network was built. Slopes are PyTorch's: at single points, as
    on pixels, they may be those of the other side, see ``python -m ministn.conformance torch``.

    Raises UserError where PyTorch is missing, and as interop.trace.traced does.
    """
    torch = needed("torch")
    graph = traced(network, form)
    root = torch.nn.Module()
    for name, values in graph.values().items():
        tensor = torch.from_numpy(values.copy())
        learned = torch.nn.Parameter(tensor, requires_grad=graph.weights[name].learns)
        *owners, own = name.split("/")
        holder = root
        for owner in owners:
            if not hasattr(holder, owner):
                holder.add_module(owner, torch.nn.Module())
            holder = getattr(holder, owner)
        holder.register_parameter(own, learned)
    for name, array in graph.constants.items():
        root.register_buffer(name, torch.from_numpy(array.copy()), persistent=False)
    return torch.fx.GraphModule(root, _written(graph, root, torch), "Exported").eval()


def from_torch(network: Network, state: Mapping[str, Any], form: Form) -> None:
    """Give the network the values of a state dict, as ``to_torch(network, form)`` has it.

    state: tensors or arrays by names. Raises UserError for one that is missing, surplus or of
    another shape, and as interop.trace.traced does; nothing is written then.
    """
    check_kind("state", state, Mapping)
    found = {
        name.replace(".", "/"): np.asarray(value.detach().cpu() if hasattr(value, "cpu") else value)
        for name, value in state.items()
    }
    traced(network, form).load(found, "the state dict")


def _written(graph: Graph, root: Any, torch: Any) -> Any:
    """The operations as a torch.fx.Graph."""
    operations, written = _operations(torch), torch.fx.Graph(root)
    values = {"x": written.placeholder("x")}

    def value(name: str) -> Any:
        if name not in values:
            values[name] = written.get_attr(name.replace("/", "."))
        return values[name]

    for number, node in enumerate(graph.nodes):
        inputs = [value(name) for name in node.inputs]
        if node.operation == "Dropout":  # which only a module knows to leave out
            root.add_module(f"dropout{number}", torch.nn.Dropout(node.options["rate"]))
            values[node.output] = written.call_module(f"dropout{number}", tuple(inputs))
        else:
            function, given, how = operations[node.operation](node, inputs)
            values[node.output] = written.call_function(function, tuple(given), how)
    written.output(values[graph.output])
    written.lint()
    return written


Call = tuple[Any, list[Any], dict[str, Any]]


def _operations(torch: Any) -> dict[str, Any]:
    """What each operation is in PyTorch: (node, inputs) -> function, arguments and options."""
    functional = torch.nn.functional

    def plain(function: Any) -> Any:
        return lambda node, inputs: (function, inputs, {})

    def conv(node: Node, inputs: list[Any]) -> Call:
        options = {"stride": node.options["stride"], "padding": node.options["margin"]}
        return functional.conv2d, inputs, options

    def max_pool(node: Node, inputs: list[Any]) -> Call:
        return functional.max_pool2d, [*inputs, node.options["size"], node.options["stride"]], {}

    def average(node: Node, inputs: list[Any]) -> Call:
        pool = functional.avg_pool3d if node.options["volume"] else functional.avg_pool2d
        return pool, [*inputs, node.options["size"]], {}

    def cut(node: Node, inputs: list[Any]) -> Call:
        kept = [slice(None)] * node.options["axis"]
        part = slice(node.options["start"], node.options["end"])
        return operator.getitem, [*inputs, (*kept, part)], {}

    def affine_grid(node: Node, inputs: list[Any]) -> Call:
        return _affine_grid, [*inputs, node.options["size"]], {}

    def grid_sample(node: Node, inputs: list[Any]) -> Call:
        mode = {"linear": "bilinear", "cubic": "bicubic"}[node.options["mode"]]
        options = {"mode": mode, "padding_mode": node.options["border"], "align_corners": True}
        return functional.grid_sample, inputs, options

    return {
        "Abs": plain(torch.abs),
        "Add": plain(operator.add),
        "AffineGrid": affine_grid,
        "AveragePool": average,
        "Concat": lambda node, inputs: (torch.cat, [inputs, node.options["axis"]], {}),
        "Conv": conv,
        "Div": plain(operator.truediv),
        "Gemm": plain(functional.linear),
        "GridSample": grid_sample,
        "LeakyRelu": lambda node, inputs: (
            functional.leaky_relu, [*inputs, node.options["slope"]], {},
        ),
        "Less": plain(torch.lt),
        "MatMul": plain(torch.matmul),
        "MaxPool": max_pool,
        "Mean": lambda node, inputs: (torch.mean, [*inputs, node.options["axis"]], {}),
        "Mul": plain(operator.mul),
        "Relu": plain(functional.relu),
        "Repeated": plain(_repeated),
        "Reshape": lambda node, inputs: (torch.reshape, [*inputs, node.options["to"]], {}),
        "Sigmoid": plain(torch.sigmoid),
        "Slice": cut,
        "Sub": plain(operator.sub),
        "Tanh": plain(torch.tanh),
        "Transpose": lambda node, inputs: (torch.permute, [*inputs, node.options["axes"]], {}),
        "Where": plain(torch.where),
    }  # fmt: skip


def _affine_grid(theta: Any, size: tuple[int, ...]) -> Any:
    """The grids of a batch, of one channel: how many there are does not count."""
    functional = needed("torch").nn.functional
    return functional.affine_grid(theta, [theta.shape[0], 1, *size], align_corners=True)


def _repeated(one: Any, rows: Any) -> Any:
    """``one`` (1, ...) for each of the rows."""
    return one.expand(rows.shape[0], *one.shape[1:])
