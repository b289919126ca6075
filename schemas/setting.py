"""What a user may set: each field of a dataclass, with its help and bounds declared beside it."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from hubdelta.schemas.errors import UsageError


@dataclass(frozen=True)
class Setting:
    """What a dataclass says of a field that a user sets, as metadata of its annotation.

    The command line makes an option of it, and `check` holds values to it.

    Attributes:
        help: what it is for, in a sentence.
        minimum: the least value that is allowed.
        unit: what the value is called or counted in, as `N` or `GB`.
        default: what happens by default, in words, where the field's default is None.
        panel: the heading under which help lists it.
    """

    help: str
    minimum: int | None = None
    unit: str | None = None
    default: str | None = None
    panel: str | None = None


def settings_of(owner: type) -> dict[str, tuple[Any, Setting]]:
    """The fields of a dataclass that a user sets: each one's type, and what is declared of it."""
    found = {}
    for name, hint in get_type_hints(owner, include_extras=True).items():
        if get_origin(hint) is Annotated:
            kind, *metadata = get_args(hint)
            for declared in metadata:
                if isinstance(declared, Setting):
                    found[name] = (kind, declared)
    return found


def check(settings: object) -> None:
    """Hold the values of a dataclass to what its fields declare: choices and least values.

    Raises:
        UsageError: a value is none of the choices, or too small.
    """
    for name, (kind, declared) in settings_of(type(settings)).items():
        value, words = getattr(settings, name), name.replace("_", " ")
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        if choices and value not in choices:
            raise UsageError(f"no {words} {value!r}: one of {', '.join(choices)}")
        if declared.minimum is not None and value is not None and not value >= declared.minimum:
            raise UsageError(f"{words} must be at least {declared.minimum}")
