"""Matplotlib, imported so that no backend can keep it from drawing files.

Figures are drawn without pyplot, whatever display there is. But Matplotlib refuses even to be
imported where MPLBACKEND names a backend that it does not know, as a notebook's in a terminal. The
variable is kept from it here; a backend that it does know is set as the variable would have.
"""

import os
import sys
from contextlib import suppress

if "matplotlib" not in sys.modules:
    wanted = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if wanted is not None:
            os.environ["MPLBACKEND"] = wanted
    if wanted:
        with suppress(ValueError):  # which it would have raised
            matplotlib.rcParams["backend"] = wanted
