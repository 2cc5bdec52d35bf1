"""The index of a home: one SQLite file, derived from the logs, that may be deleted at any time."""
