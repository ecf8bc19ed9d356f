"""ops/compose.py on a GPU: the same array code, in float32 alone."""

from ministn import ops
from ministn.backend import Array, device_holding
from ministn.errors import check_float32
from ministn.ops.compose import Cache, compose_backward

__all__ = ["compose", "compose_backward"]


def compose(left: Array, right: Array) -> tuple[Array, Cache]:
    """left (N, 2, 3), right (N, 2, 3) -> their product (N, 2, 3).

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    device_holding(left=left)
    check_float32(left=left)
    return ops.compose(left, right)
