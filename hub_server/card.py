"""The YAML of model cards and settings, parsed as untrusted input into JSON-ready values."""

import json
import math
import re
from typing import Any

import yaml

_FRONT_MATTER = re.compile(
    r"\A\ufeff?\s*---[ \t]*\r?\n(.*?)(?:\r?\n)?---[ \t]*(?:\r?\n|\Z)", re.DOTALL
)


class UnreadableYAMLError(ValueError):
    """The text is not YAML that this server accepts; the message says where."""


class _PlainLoader(yaml.SafeLoader):
    """SafeLoader with scalars as in the Hub's YAML 1.2 parser, and without aliases.

    `no` stays the language Norwegian, and a date stays a string. Aliases are rejected because a few
    lines of them can expand to gigabytes of JSON.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases are not accepted", None)
        return super().compose_node(parent, index)


_PlainLoader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")
)


def read_yaml(text: str) -> Any:
    """Read one YAML document into values that `json.dumps` accepts.

    Raises:
        UnreadableYAMLError: for a syntax error, an alias, a tag, or too deep nesting.
    """
    try:
        return json_ready(yaml.load(text, Loader=_PlainLoader))  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UnreadableYAMLError(" ".join(str(error).split())) from error


def read_json(text: str) -> Any:
    """Read JSON as Python does (NaN allowed) into values that strict JSON can hold.

    Raises:
        ValueError: when it is not JSON, or is nested too deeply.
    """
    try:
        return json_ready(json.loads(text))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def front_matter(card: str) -> tuple[dict[str, Any] | None, str]:
    """Split a model card into its metadata (None if it has none) and its text.

    Raises:
        UnreadableYAMLError: when the front matter is not a YAML mapping.
    """
    match = _FRONT_MATTER.match(card)
    if match is None:
        return None, card
    metadata = read_yaml(match.group(1))
    if metadata is None:
        return None, card[match.end() :]
    if not isinstance(metadata, dict):
        raise UnreadableYAMLError("the front matter is not a mapping")
    return metadata, card[match.end() :]


def json_ready(value: Any) -> Any:
    """The value with everything replaced that JSON in UTF-8 cannot hold.

    NaN and infinities become None, lone surrogates question marks, keys strings.
    """
    match value:
        case dict():
            return {json_ready(str(key)): json_ready(item) for key, item in value.items()}
        case list() | tuple() | set():
            return [json_ready(item) for item in value]
        case str():
            return value.encode("utf-8", "replace").decode()
        case float():
            return value if math.isfinite(value) else None
        case None | bool() | int():
            return value
        case _:
            return str(value)


def strings(value: Any) -> list[str]:
    """A card's "one or many" field as a list of non-empty strings."""
    items = value if isinstance(value, list) else [value]
    return [str(item) for item in items if isinstance(item, str | int | float) and str(item)]
