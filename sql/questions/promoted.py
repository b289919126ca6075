"""The tokens that adapters promote, beside answers about adapters and domains."""

from collections import Counter
from collections.abc import Collection
from typing import Final

import pyarrow as pa

from hubdelta.sql.connection import Queries

_TOKENS: Final = pa.list_(pa.struct([("token", pa.string()), ("inside", pa.int64())]))


def with_promoted(queries: Queries, found: pa.Table) -> pa.Table:
    """An answer about adapters with one more column: the tokens that each promotes.

    Args:
        queries: the index.
        found: has the columns base and adapter.

    Returns:
        The same with `promotes`, a list of texts, strongest first; null where it is not known.
    """
    tokens = _promoted(queries, found["adapter"].to_pylist())
    keys = zip(found["base"].to_pylist(), found["adapter"].to_pylist(), strict=True)
    column = pa.array([tokens.get(key) for key in keys], pa.list_(pa.string()))
    return found.append_column("promotes", column)


def domains_with_promoted(queries: Queries, domains: pa.Table) -> pa.Table:
    """Domains with one more column: the tokens that at least half of the members promote.

    Args:
        queries: the index.
        domains: has the columns base and members.

    Returns:
        The same with `promotes`, a list of tokens and how many members promote each (`inside`), the
        most common first; of equally common ones the one that members promote more strongly.
    """
    members = domains["members"].to_pylist()
    tokens = _promoted(queries, {name for names in members for name in names})
    found = []
    for base, names in zip(domains["base"].to_pylist(), members, strict=True):
        lists = [tokens.get((base, name), []) for name in names]
        counts = Counter(token for one in lists for token in one)
        places: Counter[str] = Counter()
        for one in lists:
            places.update({token: place for place, token in enumerate(one)})
        common = [token for token in counts if 2 * counts[token] >= len(names)]
        common.sort(key=lambda token: (-counts[token], places[token], token))
        found.append([{"token": token, "inside": counts[token]} for token in common])
    return domains.append_column("promotes", pa.array(found, _TOKENS))


def _promoted(queries: Queries, adapters: Collection[str]) -> dict[tuple[str, str], list[str]]:
    rows = queries.run(
        "SELECT a.base, a.adapter, a.promotes FROM adapters AS a"
        " WHERE a.promotes IS NOT NULL AND a.adapter IN (SELECT unnest(?::VARCHAR[]))",
        [list(adapters)],
    )
    return {(row["base"], row["adapter"]): row["promotes"] for row in rows.to_pylist()}
