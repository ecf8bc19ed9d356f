"""One thread for the linear algebra of the tests and of the processes they start.

Their arrays are tiny, so threads only wait for each other; and with one thread sums are made in
one order. The variables count only before NumPy is imported, which happens after this file.
"""

import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(name, "1")
