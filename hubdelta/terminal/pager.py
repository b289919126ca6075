"""How a command line says that it wants no pager."""

NO_PAGER = "hubdelta.no_pager"
"""Key of the context's `meta`: whether no pager is wanted."""
