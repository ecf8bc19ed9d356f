"""onnxruntime: AffineGrid and GridSample of opset 20 on the CPU. It has values alone."""

from typing import Any

import numpy as np

from ministn.conformance.compare import Found, Group, as_array, cases
from ministn.conformance.runners.torch import padding_of
from ministn.interop.extras import needed
from ministn.interop.onnx_file import IR, OPSET

MODES = {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic"}


class OnnxRuntime:
    name = "onnxruntime"
    tolerance = 1e-12

    def __init__(self) -> None:
        self.onnx, self.runtime = needed("onnx"), needed("onnxruntime")
        self.version = self.runtime.__version__

    def grid(self, group: Group) -> Found | None:
        if group["transform"] != "affine":
            return None
        return [{"grid": self._grid(case, group["coordinates"])[0]} for case in cases(group)]

    def sample(self, group: Group) -> Found | None:
        points = [vector["point"] for vector in group["vectors"]]
        y = self._sampled(as_array(group["image"])[None, None], as_array([[points]]), group)
        return None if y is None else [*({"value": value} for value in y[0, 0, 0]), {}]

    def warp(self, group: Group) -> Found | None:
        image = np.ascontiguousarray(as_array([group["image"]]).transpose(0, 3, 1, 2))
        found = []
        for case in cases(group):
            y = self._sampled(image, self._grid(case, group["coordinates"]), group)
            if y is None:
                return None
            found.append({"y": y[0].transpose(1, 2, 0)})
        return found

    def _grid(self, case: Group, coordinates: str) -> np.ndarray:
        size = np.array([1, 1, *case["size"]])
        return self._run(
            "AffineGrid", {"theta": as_array([case["theta"]]), "size": size},
            align_corners=int(coordinates == "corners"),
        )  # fmt: skip

    def _sampled(self, image: np.ndarray, grid: np.ndarray, group: Group) -> np.ndarray | None:
        if (padding := padding_of(group)) is None:
            return None
        return self._run(
            "GridSample", {"image": image, "grid": grid},
            mode=MODES[group["kernel"]], padding_mode=padding,
            align_corners=int(group["coordinates"] == "corners"),
        )  # fmt: skip

    def _run(self, operation: str, inputs: dict[str, np.ndarray], **attributes: Any) -> Any:
        """One operation, in float64."""
        helper = self.onnx.helper
        kinds = {name: helper.np_dtype_to_tensor_dtype(x.dtype) for name, x in inputs.items()}
        graph = helper.make_graph(
            [helper.make_node(operation, list(inputs), ["y"], **attributes)], operation,
            [helper.make_tensor_value_info(name, kinds[name], x.shape)
             for name, x in inputs.items()],
            [helper.make_tensor_value_info("y", self.onnx.TensorProto.DOUBLE, None)],
        )  # fmt: skip
        model = helper.make_model(
            graph, ir_version=IR, opset_imports=[helper.make_opsetid("", OPSET)]
        )
        session = self.runtime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return session.run(None, inputs)[0]
