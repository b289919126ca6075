"""Commands as Typer takes them, which has a parameter for each option.

A command may take a whole dataclass in place of options. Each field that declares one, as a
`typer.Option` or a `Setting`, becomes an option of the command, under the field's name and with its
default; the command gets the dataclass.
"""

import inspect
from collections.abc import Callable
from dataclasses import Field, fields, is_dataclass
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import typer
from typer.models import OptionInfo

from hubdelta.schemas.setting import settings_of

ONCE: Final = "once"
"""Metadata of an option that is refused where it is given twice: others keep the last value."""


def for_typer(command: Callable[..., Any]) -> Callable[..., Any]:
    """A function with one parameter for each option, which calls a command."""
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[type, list[str]]] = {}
    once: list[str] = []
    for name, parameter in inspect.signature(command).parameters.items():
        hint = hints[name]
        if is_dataclass(hint) and isinstance(hint, type) and (options := _options(hint)):
            groups[name] = hint, [option.name for option in options]
            parameters += options
            continue
        if ONCE in get_args(hint)[1:]:
            once.append(name)
            kind, *metadata = get_args(hint)
            hint = Annotated[list[_given(kind)], *metadata]  # type: ignore[misc]
        parameters.append(_parameter(name, hint, parameter.default))

    def called(**values: Any) -> Any:
        for name in once:
            values[name] = _only(name, values[name])
        for name, (kind, names) in groups.items():
            values[name] = kind(**{option: values.pop(option) for option in names})
        return command(**values)

    called.__name__, called.__doc__ = command.__name__, command.__doc__
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    return called


def _options(owner: type) -> list[inspect.Parameter]:
    hints = get_type_hints(owner, include_extras=True)
    return [
        _parameter(field.name, hint, field.default)
        for field in fields(owner)
        if (hint := _option(owner, field, hints[field.name]))
    ]


def _option(owner: type, field: "Field[Any]", hint: Any) -> Any:
    """The annotation of an option for a field; None where the field declares none."""
    if any(isinstance(declared, OptionInfo) for declared in get_args(hint)[1:]):
        return hint
    if field.name not in (declared := settings_of(owner)):
        return None
    kind, setting = declared[field.name]
    option = typer.Option(
        f"--{field.name.replace('_', '-')}",
        help=setting.help,
        min=setting.minimum,
        metavar=setting.unit,
        show_default=setting.default or True,
        rich_help_panel=setting.panel,
    )
    return Annotated[kind, option]


def _parameter(name: str, hint: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)


def _given(kind: Any) -> Any:
    """The type of a value that is given, of an option that may be left out."""
    given = [one for one in get_args(kind) if one is not type(None)]
    return given[0] if given and get_origin(kind) is not Annotated else kind


def _only(name: str, values: list[Any] | None) -> Any:
    if values is None:
        return None
    if len(values) > 1:
        given = " and ".join(map(str, values))
        raise typer.BadParameter(f"give one {name}, not {given}", param_hint=f"'--{name}'")
    return values[0]
