"""Figures about runs over cold threads, for OpenTelemetry. Without an SDK in the process they go nowhere.

The only place that knows OpenTelemetry. It is imported when a run begins.
"""

from __future__ import annotations

import time
from collections import Counter

from opentelemetry import metrics

from clew.errors import ClewError
from clew.rollout import FailPoints, FileSystem, RolloutFile, materialise

__all__ = ["ColdMetrics", "materialise_measured"]


class ColdMetrics:
    """Counters and histograms. `operation` is `compress` or `materialise`; no value names a thread."""

    def __init__(self, meter: metrics.Meter | None = None) -> None:
        meter = meter or metrics.get_meter("clew.store.cold")
        self._runs = meter.create_counter("clew.cold.runs", description="runs, by how they ended")
        self._files = meter.create_counter("clew.cold.files", description="files that changed their form")
        self._failed = meter.create_counter("clew.cold.failed", description="files that could not be changed")
        self._skipped = meter.create_counter("clew.cold.skipped", description="files that were passed over, by reason")
        self._in = meter.create_counter("clew.cold.bytes.in", unit="By", description="bytes read")
        self._out = meter.create_counter("clew.cold.bytes.out", unit="By", description="bytes written")
        self._cleaned = meter.create_counter("clew.cold.cleaned", description="forgotten temporary files removed")
        self._ratio = meter.create_histogram("clew.cold.ratio", unit="1", description="text by packed bytes, per file")
        self._file_seconds = meter.create_histogram("clew.cold.file.duration", unit="s", description="time per file")
        self._run_seconds = meter.create_histogram("clew.cold.run.duration", unit="s", description="time per run")

    def file(self, operation: str, before: int, after: int, seconds: float) -> None:
        """A file has its new form; sizes in bytes."""
        tags = {"operation": operation}
        self._files.add(1, tags)
        self._in.add(before, tags)
        self._out.add(after, tags)
        self._file_seconds.record(seconds, tags)
        text, packed = (before, after) if operation == "compress" else (after, before)
        if packed:
            self._ratio.record(text / packed, tags)

    def failed(self, operation: str) -> None:
        self._failed.add(1, {"operation": operation})

    def run(self, operation: str, outcome: str, seconds: float, skipped: Counter[str], cleaned: int) -> None:
        """A run ended: `done`, `failed` or `stopped`."""
        self._runs.add(1, {"operation": operation, "outcome": outcome})
        self._run_seconds.record(seconds, {"operation": operation})
        for reason, count in sorted(skipped.items()):
            self._skipped.add(count, {"operation": operation, "reason": reason})
        if cleaned:
            self._cleaned.add(cleaned, {"operation": operation})


def materialise_measured(fs: FileSystem, file: RolloutFile, *, fail: FailPoints, process: int) -> RolloutFile:
    """`clew.rollout.materialise` for a thread that goes on, with its figures."""
    figures = ColdMetrics()
    begin = time.perf_counter()
    try:
        plain = materialise(fs, file, fail=fail, process=process)
    except (ClewError, OSError):
        figures.failed("materialise")
        raise
    figures.file("materialise", file.size, plain.size, time.perf_counter() - begin)
    return plain
