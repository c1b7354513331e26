"""How a store is followed where folding, looking and reading cost next to nothing each."""

from collections.abc import Container

from synergy.ports import News, Store


def followed(store: Store, after: int, limit: int, known: Container[tuple[str, int]]) -> News:
    """`Store.follow`, step by step."""
    folded = store.fold(limit)
    changes = store.changes(after, limit)
    units = [
        key for _, kind, key, version in changes if kind == "unit" and (key, version) not in known
    ]
    found = store.read_units(units, history=False) if units else {}
    return News(changes, found, max(folded, len(changes)) >= limit)
