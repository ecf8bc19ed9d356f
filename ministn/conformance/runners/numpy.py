"""This package's readable engine. It has corners; theta for half pixels is converted."""

from typing import Any

import numpy as np

from ministn import __version__, ops
from ministn.conformance.compare import Found, Group, as_array, cases
from ministn.interop.half_pixel import theta_from_half_pixel
from ministn.ops.sampling import BORDERS
from ministn.transformer.transforms import AFFINE, Projective, Transform


class Ministn:
    name = "ministn"
    version = __version__
    tolerance = 1e-12

    def grid(self, group: Group) -> Found | None:
        if group["coordinates"] != "corners":
            return None
        return [self._grid(case, group["transform"] == "projective") for case in cases(group)]

    def sample(self, group: Group) -> Found | None:
        if group["border"] not in BORDERS or group["coordinates"] != "corners":
            return None
        *vectors, together = cases(group)
        points = as_array([vector["point"] for vector in vectors])
        finite = points[np.isfinite(points).all(axis=1)]
        image = as_array(group["image"])[None, ..., None]
        y, _, dgrid = self._sampled(image, points[None, None], np.ones(len(points)), group)
        _, dimage, _ = self._sampled(image, finite[None, None], as_array(together["dy"]), group)
        each = zip(y[0, 0, :, 0], dgrid[0, 0], strict=True)
        return [
            *({"value": value, "dpoint": slopes} for value, slopes in each),
            {"dimage": dimage[0, :, :, 0]},
        ]

    def warp(self, group: Group) -> Found | None:
        if group["border"] not in BORDERS:
            return None
        if group["border"] == "mirror" and group["coordinates"] != "corners":
            return None
        found = []
        for case in cases(group):
            image, theta = as_array([group["image"]]), as_array([case["theta"]])
            sizes = image.shape[1:3], case["size"]
            half = group["coordinates"] == "half pixels"
            ours = theta_from_half_pixel(theta, *sizes) if half else theta
            grid, cache = ops.affine_grid(ours, case["size"])
            y, dimage, dgrid = self._sampled(image, grid, as_array([case["dy"]]), group)
            dtheta = ops.affine_grid_backward(dgrid, cache)
            dtheta = theta_from_half_pixel(dtheta, *sizes) if half else dtheta  # the same factors
            found.append({"y": y[0], "dtheta": dtheta.ravel(), "dimage": dimage[0]})
        return found

    def _sampled(
        self, image: np.ndarray, grid: np.ndarray, dy: np.ndarray, group: Group
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """y, dimage and dgrid."""
        sample, backward = (
            getattr(ops, f"{group['kernel']}_sampler{way}") for way in ("", "_backward")
        )
        y, cache = sample(image, grid, border=group["border"])
        return y, *backward(dy.reshape(y.shape), cache)

    def _grid(self, case: Group, projective: bool) -> dict[str, Any]:
        theta, dgrid = as_array(case["theta"]), as_array([case["dgrid"]])
        transform: Transform = Projective() if projective else AFFINE
        flat = (theta - np.eye(3)).reshape(1, 9)[:, :8] if projective else theta.reshape(1, 6)
        grid, cache = transform.forward(flat, case["size"])
        return {"grid": grid[0], "dtheta": transform.backward(dgrid, cache)[0]}
