"""What a network is, before it is built for images of one form."""

from abc import ABC, abstractmethod
from typing import ClassVar

from ministn.data import Form
from ministn.errors import UserError
from ministn.models.network import Network


class Architecture(ABC):
    """A network as a value, see kinds.py."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def name(self) -> str:
        """In the names of folders, on the command line, and where people read it."""

    @abstractmethod
    def build(self, form: Form) -> Network:
        """The network for such images, its parameters not yet laid out.

        Raises UserError for images that it cannot have, say smaller than its pooling needs.
        """


def check_one_channel(form: Form) -> None:
    """Raise UserError for images of several."""
    if form.channels != 1:
        raise UserError(f"the network is for one channel, got {form.channels}")


def plane(form: Form) -> tuple[int, int]:
    """(H, W). Raises UserError for volumes."""
    if len(form.size) != 2:
        size = "x".join(map(str, form.size))
        raise UserError(f"the network is for images (H, W), got volumes of {size}")
    return form.size[0], form.size[1]
