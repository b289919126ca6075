"""What a pickle describes, without running it: its instructions are read, and nothing is called.

It implements enough of the pickle machine for what torch.save writes for a dictionary of tensors.
What a pickle would import or call becomes a note of its name and arguments. Keys can only be texts,
so that nested tuples never have to be hashed.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Final


class BadPickleError(ValueError):
    """The bytes are not a pickle; the message says why."""


class UnusualPickleError(ValueError):
    """It does what no dictionary of tensors needs; the message says what."""


@dataclass(frozen=True)
class Global:
    """Something that the pickle imports."""

    name: str


@dataclass(frozen=True)
class Call:
    """A call of something imported."""

    function: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Persistent:
    """A reference outside the pickle: a storage."""

    content: Any


def in_words(value: Any) -> str:
    """How to describe a pickle's value in a message."""
    match value:
        case Global(name) | Call(name):
            return name[:80]
        case str():
            return value[:80]
    return type(value).__name__


def read_pickle(file: IO[bytes]) -> Any:
    """The value that a pickle describes, made of plain values and the notes above.

    Args:
        file: positioned after the pickle's last instruction afterwards.

    Raises:
        BadPickleError, UnusualPickleError
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                return machine.pop()
            action = _ACTIONS.get(opcode.name)
            if action is None:
                raise UnusualPickleError(f"the instruction {opcode.name}")
            action(machine, argument)
    except UnusualPickleError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise BadPickleError(str(error) or type(error).__name__) from error
    raise BadPickleError("it has no end")


class _Machine:
    """A stack of values, the marks on it, and the memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def pop_marked(self) -> list[Any]:
        place = self.marks.pop()
        values = self.stack[place:]
        del self.stack[place:]
        return values

    def tuple_of(self, length: int) -> None:
        if len(self.stack) < length:
            raise IndexError("the stack is too short")
        values = tuple(self.stack[len(self.stack) - length :])
        del self.stack[len(self.stack) - length :]
        self.push(values)

    def put_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise UnusualPickleError(f"items of a {type(target).__name__}")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str):
                raise UnusualPickleError("a key that is not a text")
            target[key] = value

    def call(self, _: object = None) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise UnusualPickleError("a call of something that is not imported")
        is_dict = function.name == "collections.OrderedDict" and not arguments
        self.push({} if is_dict else Call(function.name, arguments))

    def named(self, _: object = None) -> None:
        name, module = self.pop(), self.pop()
        self.push(Global(f"{module}.{name}"))

    def append(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise UnusualPickleError(f"items of a {type(self.stack[-1]).__name__}")
        self.stack[-1].extend(values)


Action = Callable[[_Machine, Any], object]


def _remember(machine: _Machine, place: int | None) -> None:
    machine.memo[len(machine.memo) if place is None else place] = machine.stack[-1]


_VALUES: Final = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
    *("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
)

_ACTIONS: Final[dict[str, Action]] = {
    **dict.fromkeys(_VALUES, lambda machine, value: machine.push(value)),
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine.pop_marked(),
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_marked())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": lambda machine, _: machine.push(machine.pop_marked()),
    "APPEND": lambda machine, _: machine.append([machine.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.pop_marked()),
    "SETITEM": lambda machine, _: machine.put_items([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.put_items(machine.pop_marked()),
    "PUT": _remember,
    "BINPUT": _remember,
    "LONG_BINPUT": _remember,
    "MEMOIZE": _remember,
    "GET": lambda machine, place: machine.push(machine.memo[place]),
    "BINGET": lambda machine, place: machine.push(machine.memo[place]),
    "LONG_BINGET": lambda machine, place: machine.push(machine.memo[place]),
    "GLOBAL": lambda machine, name: machine.push(Global(name.replace(" ", "."))),
    "STACK_GLOBAL": _Machine.named,
    "BINPERSID": lambda machine, _: machine.push(Persistent(machine.pop())),
    "REDUCE": _Machine.call,
    "BUILD": lambda machine, _: machine.pop(),  # attributes: of a state_dict its _metadata
}
