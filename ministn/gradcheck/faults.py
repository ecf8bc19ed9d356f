"""Backward passes broken on purpose, to see that the checks find out.

Forward passes stay right, so every fault has to show as a difference between the two.
"""

from typing import NamedTuple

import numpy as np

from ministn.gradcheck.breaking import How, replaced
from ministn.gradcheck.check import GradientError, KinkError, check_gradients
from ministn.gradcheck.layer_faults import LAYER_FAULTS
from ministn.gradcheck.operation_faults import OPERATION_FAULTS
from ministn.gradcheck.suite import PROBLEMS


class Fault(NamedTuple):
    """One way to break one backward pass."""

    check: str  # the check that has to notice, a name in PROBLEMS
    target: str  # what is broken: "module.function" or "module.Class.method" of ministn
    what: str
    how: How

    def caught(self) -> GradientError | None:
        """The checker's complaint about the broken pass; None if it found nothing wrong.

        Raises RuntimeError if breaking it changes no gradient, as then it is no fault.
        """
        build, options = PROBLEMS[self.check]
        problem = build()
        right = problem.gradients()
        with replaced(self.target, self.how):
            wrong = problem.gradients()
        if all(
            np.shape(wrong[name]) == array.shape and np.allclose(wrong[name], array, 1e-9, 0)
            for name, array in right.items()
        ):
            raise RuntimeError(f"{self.check}: {self.what}: this changes no gradient")
        try:
            check_gradients(problem.value, problem.arrays, wrong, **options)
        except KinkError:
            return None
        except GradientError as error:
            return error
        return None


FAULTS = [
    Fault(check, target, what, how)
    for (check, target), mistakes in (OPERATION_FAULTS | LAYER_FAULTS).items()
    for what, how in mistakes.items()
]
