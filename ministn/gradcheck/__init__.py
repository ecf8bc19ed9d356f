"""Finite-difference checks of backward passes.

A tool for any function, and ``python -m ministn.gradcheck`` for everything in this package.
"""

from ministn.gradcheck.check import (
    GradientError,
    KinkError,
    Report,
    check_gradients,
    check_operation,
)

__all__ = ["GradientError", "KinkError", "Report", "check_gradients", "check_operation"]
