"""The contracts of a store, and the one that keeps threads in Codex' own files."""

from clew.store.contracts import (
    Catalog,
    Lease,
    ListQuery,
    LogStore,
    Page,
    SearchHit,
    SearchPage,
    SearchProgress,
    SearchQuery,
    ThreadSummary,
)
from clew.store.local import LocalStore

__all__ = [
    "Catalog",
    "Lease",
    "ListQuery",
    "LocalStore",
    "LogStore",
    "Page",
    "SearchHit",
    "SearchPage",
    "SearchProgress",
    "SearchQuery",
    "ThreadSummary",
]
