"""Kornia: create_meshgrid and transform_points, remap, homography_warp, on PyTorch's autograd."""

from typing import Any

from ministn.conformance.compare import Found, Group, cases
from ministn.conformance.runners.torch import Torch
from ministn.interop.extras import needed


class Kornia(Torch):
    name = "kornia"

    def __init__(self) -> None:
        super().__init__()
        kornia = needed("kornia")
        self.geometry, self.version = kornia.geometry, kornia.__version__

    def grid(self, group: Group) -> Found | None:
        return [self._grid(case, group["coordinates"]) for case in cases(group)]

    def affine_grid(self, theta: Any, size: list[int], coordinates: str) -> Any:
        """Of a homography too."""
        regular = self.geometry.create_meshgrid(
            *size, dtype=theta.dtype, align_corners=coordinates == "corners"
        )
        return self.geometry.transform_points(self.square(theta)[:, None], regular)

    def square(self, theta: Any) -> Any:
        """(1, 3, 3)."""
        last = self.tensor([[[0.0, 0, 1]]])
        return theta if theta.shape[1] == 3 else self.torch.cat([theta, last], dim=1)

    def sampled(self, image: Any, grid: Any, group: Group, padding: str) -> Any:
        return self.geometry.remap(
            image, grid[..., 0], grid[..., 1], group["kernel"], padding,
            group["coordinates"] == "corners", normalized_coordinates=True,
        )  # fmt: skip

    def warped(self, image: Any, theta: Any, size: list[int], group: Group, padding: str) -> Any:
        return self.geometry.homography_warp(
            image, self.square(theta), tuple(size), group["kernel"], padding,
            align_corners=group["coordinates"] == "corners",
        )  # fmt: skip
