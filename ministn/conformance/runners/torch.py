"""PyTorch: affine_grid and grid_sample, with autograd's slopes.

No slope is asked for at NaN: with bilinear and border or reflection PyTorch 2.14.1's backward pass
ends the process on a CPU, by a segmentation fault (https://github.com/pytorch/pytorch/issues/24823).
"""

import warnings
from typing import Any

from ministn.conformance.compare import Found, Group, as_array, cases
from ministn.interop.extras import needed
from ministn.interop.warps import PADDING


def padding_of(group: Group) -> str | None:
    """PyTorch's and ONNX's name of a border, None if they have none with these coordinates."""
    border, corners = group["border"], group["coordinates"] == "corners"
    if border in ("mirror", "reflect"):
        return "reflection" if corners == (border == "mirror") else None
    return PADDING.get(border)


class Torch:
    """Borders depend on the coordinates: reflection is mirror with corners, else reflect."""

    name = "torch"
    tolerance = 1e-12

    def __init__(self) -> None:
        self.torch = needed("torch")
        self.version = self.torch.__version__

    def grid(self, group: Group) -> Found | None:
        if group["transform"] != "affine":
            return None
        return [self._grid(case, group["coordinates"]) for case in cases(group)]

    def sample(self, group: Group) -> Found | None:
        if (padding := padding_of(group)) is None:
            return None
        *vectors, together = cases(group)
        points = [vector["point"] for vector in vectors]
        finite = [None not in point for point in points]
        image = self.tensor([group["image"]])[:, None].requires_grad_()
        places = self.tensor(points)[None, None]
        with self.torch.no_grad():
            values = self.sampled(image, places, group, padding)[0, 0, 0].numpy()
        at = places[:, :, finite].requires_grad_()
        kept = self.sampled(image, at, group, padding)[0, 0, 0]
        (dpoint,) = self.torch.autograd.grad(kept.sum(), at, retain_graph=True)
        (dimage,) = self.torch.autograd.grad((kept * self.tensor(together["dy"])).sum(), image)
        slopes = iter(dpoint[0, 0].numpy())
        return [
            *({"value": value} | ({"dpoint": next(slopes)} if known else {})
              for value, known in zip(values, finite, strict=True)),
            {"dimage": dimage[0, 0].numpy()},
        ]  # fmt: skip

    def warp(self, group: Group) -> Found | None:
        if (padding := padding_of(group)) is None:
            return None
        found = []
        for case in cases(group):
            theta = self.tensor([case["theta"]]).requires_grad_()
            image = self.tensor([group["image"]]).permute(0, 3, 1, 2).requires_grad_()
            y = self.warped(image, theta, case["size"], group, padding)[0].permute(1, 2, 0)
            loss = (y * self.tensor(case["dy"])).sum()
            dtheta, dimage = self.torch.autograd.grad(loss, [theta, image])
            found.append({
                "y": y.detach().numpy(), "dtheta": dtheta.flatten().numpy(),
                "dimage": dimage[0].permute(1, 2, 0).numpy(),
            })  # fmt: skip
        return found

    def sampled(self, image: Any, grid: Any, group: Group, padding: str) -> Any:
        return self.torch.nn.functional.grid_sample(
            image, grid, group["kernel"], padding, group["coordinates"] == "corners"
        )

    def warped(self, image: Any, theta: Any, size: list[int], group: Group, padding: str) -> Any:
        grid = self.affine_grid(theta, size, group["coordinates"])
        return self.sampled(image, grid, group, padding)

    def affine_grid(self, theta: Any, size: list[int], coordinates: str) -> Any:
        with warnings.catch_warnings(action="ignore"):  # of sizes of 1, whose meaning has changed
            return self.torch.nn.functional.affine_grid(
                theta, [1, 1, *size], coordinates == "corners"
            )

    def tensor(self, numbers: Any) -> Any:
        return self.torch.from_numpy(as_array(numbers))

    def _grid(self, case: Group, coordinates: str) -> dict[str, Any]:
        theta = self.tensor([case["theta"]]).requires_grad_()
        grid = self.affine_grid(theta, case["size"], coordinates)[0]
        (dtheta,) = self.torch.autograd.grad((grid * self.tensor(case["dgrid"])).sum(), theta)
        return {"grid": grid.detach().numpy(), "dtheta": dtheta.flatten()[:8].numpy()}
