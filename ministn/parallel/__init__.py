"""Training by several processes at once.

Every process, a rank, has the same network and works on its own rows of each batch. Rank 0 is the
program itself: it asks the others to do what it does (team.py, worker.py). How ranks talk, and how
their gradients become one update, is an Exchange: through memory that they share (processes.py),
or through MPI (mpi.py).
"""

from ministn.parallel.mpi import ranks
from ministn.parallel.team import Team, team

__all__ = ["Team", "ranks", "team"]
