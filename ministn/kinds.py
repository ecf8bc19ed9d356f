"""Values that say what is trained: frozen dataclasses, each of a kind that has a name.

    @kind("step decay")
    class StepDecay:
        factor: float = 0.7
        every: int = 20

A value is made of numbers, texts, tuples and other values; of NumPy's numbers it makes Python's. A
field that is said to be a number or a text holds nothing else, or it is a UserError. In
JSON it is a dictionary with its kind beside its fields; read again, a missing field has its
default. Nothing falls through: an unknown kind or field is an error, so what a record names is what
trains. A default never changes, since records rely on it.
"""

from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from types import NoneType, UnionType
from typing import Any, NamedTuple, TypeVar, cast, dataclass_transform, get_args

import numpy as np

from ministn.errors import UserError, is_number, is_whole

KINDS: dict[str, Any] = {}

Class = TypeVar("Class", bound=type)
Value = TypeVar("Value")


@dataclass_transform(frozen_default=True)
def kind(name: str) -> Callable[[Class], Class]:
    """Make a class a frozen dataclass whose values are called so.

    Raises ValueError if those of another class are.
    """

    def register(cls: Class) -> Class:
        known = KINDS.get(name, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"there is a kind {name!r} already: {known.__qualname__}")
        _with_checked_fields(cls)
        made: Any = dataclass(frozen=True)(cls)
        made.kind = name
        KINDS[name] = made
        return cast(Class, made)

    return register


def _with_checked_fields(cls: Any) -> None:
    """Have NumPy's numbers in fields become Python's, and check what the fields hold: by the class,
    whose words are the more exact, then by their types.
    """
    check = getattr(cls, "__post_init__", None)

    def post_init(self: Any) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _python(getattr(self, field.name)))
        try:
            if check is not None:
                check(self)
        except TypeError:  # it has compared a text with a number
            _check_types(self)
            raise
        _check_types(self)

    cls.__post_init__ = post_init


# Types of fields: what their values are called, and whether one is that.
PLAIN: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    int: ("a whole number", is_whole),
    float: ("a number", is_number),
    bool: ("True or False", lambda value: isinstance(value, bool)),
    str: ("a text", lambda value: isinstance(value, str)),
    NoneType: ("None", lambda value: value is None),
}


def _check_types(value: Any) -> None:
    """Raise UserError for a field that is to be plain, as PLAIN has it, and is not."""
    for field in fields(value):
        types = get_args(field.type) if isinstance(field.type, UnionType) else (field.type,)
        held, wanted = getattr(value, field.name), [PLAIN[each] for each in types if each in PLAIN]
        if len(wanted) == len(types) and not any(fits(held) for _, fits in wanted):
            words = " or ".join(words for words, _ in wanted)
            raise UserError(f"{field.name} must be {words}, got {held!r}")


def _python(value: Any) -> Any:
    if type(value) is tuple:
        return tuple(map(_python, value))
    if isinstance(value, np.floating):
        return float(value)
    return value.item() if isinstance(value, np.generic) else value


# -- JSON ------------------------------------------------------------------------------------------


def to_json(value: Any) -> Any:
    """A value as JSON has it. Raises TypeError for anything that is none."""
    cls = type(value)
    if is_dataclass(cls) and hasattr(cls, "kind"):
        if "kind" not in vars(cls):
            raise TypeError(f"{cls.__name__} has no kind of its own, only that of {value.kind!r}")
        own = {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
        return {"kind": value.kind, **own}
    if isinstance(value, (tuple, list)):
        return [to_json(each) for each in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a value is made of values, numbers, texts and tuples, got {value!r}")


def from_json(found: Any) -> Any:
    """The value again. Raises UserError for an unknown kind or field, or one that cannot be."""
    if isinstance(found, list):
        return tuple(map(from_json, found))
    if not isinstance(found, dict):
        return found
    given = {name: from_json(each) for name, each in found.items() if name != "kind"}
    cls = KINDS.get(found.get("kind", ""))
    if cls is None:
        raise UserError(f"unknown kind {found.get('kind')!r}; known are {', '.join(sorted(KINDS))}")
    known = {field.name: field for field in fields(cls)}
    if unknown := sorted(given.keys() - known.keys()):
        raise UserError(f"{cls.kind} has no {', '.join(unknown)}; it has {', '.join(known)}")
    if missing := [n for n, f in known.items() if n not in given and _default(f) is MISSING]:
        raise UserError(f"{cls.kind} needs {', '.join(missing)}")
    return cls(**given)


# -- one field, by its path ------------------------------------------------------------------------


def has(value: Any, path: str) -> bool:
    """Whether there is a field at a path: "training.schedule.every"."""
    for name in path.split("."):
        if not is_dataclass(value) or name not in {field.name for field in fields(value)}:
            return False
        value = getattr(value, name)
    return True


def value_at(value: Any, path: str) -> Any:
    """What the field at a path holds."""
    for name in path.split("."):
        value = getattr(value, name)
    return value


def replaced(value: Value, path: str, field: Any) -> Value:
    """The same value with another one at a path."""
    name, _, rest = path.partition(".")
    inner = replaced(getattr(value, name), rest, field) if rest else field
    return replace(value, **{name: inner})  # type: ignore[type-var]


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """All that a value is, by paths: what its fields hold, and the kinds of the values in it."""
    found: dict[str, Any] = {}
    for field in fields(value):
        here, held = f"{path}.{field.name}" if path else field.name, getattr(value, field.name)
        if hasattr(held, "kind"):
            found |= {here: held.kind} | leaves(held, here)
        else:
            found[here] = held
    return found


# -- what differs from the defaults ----------------------------------------------------------------


class Difference(NamedTuple):
    """A field that is not as its class has it by default.

    text: what it holds, the same for numbers that are equal; of a value its kind. is_text: whether
    it is a text or a kind. required: whether there is no default.
    """

    path: str
    text: str
    is_text: bool
    required: bool


def differences(value: Any, path: str = "") -> Iterator[Difference]:
    """All fields of a value that differ, in their order, and those of the values that it holds."""
    for field in fields(value):
        found, usual = getattr(value, field.name), _default(field)
        here = f"{path}.{field.name}" if path else field.name
        if hasattr(found, "kind"):
            if type(found) is not type(usual):
                yield Difference(here, found.kind, True, usual is MISSING)
            yield from differences(found, here)
        elif usual is MISSING or found != usual:
            yield Difference(here, short(found), isinstance(found, str), usual is MISSING)


def short(value: Any) -> str:
    """A number or text in few characters, the same for 3 and 3.0."""
    if isinstance(value, tuple):
        return "x".join(map(short, value))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def _default(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
