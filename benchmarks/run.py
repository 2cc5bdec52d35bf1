"""Measure clew, beside the real Codex where it is installed, and print a table.

    python benchmarks/run.py                     # all of it, about three minutes
    python benchmarks/run.py --only turns --runs 3

Saves `benchmarks/results/latest.json` and `.md`. The machine should have nothing else to do. The real Codex is looked
for in `CLEW_PEER`, or in `.peer` of the project, where `make test-peer` installs it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import measures
from figures import Report, machine

from drivers import PeerMissing, find_peer

VERSION = "0.169.0"
RESULTS = Path(__file__).resolve().parent / "results"
MEASURES = {"starts": (measures.starts, 15), "turns": (measures.turns, 5), "restarts": (measures.restarts, 5)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(MEASURES), action="append", help="may be given several times")
    parser.add_argument("--runs", type=int, help="how often each figure is taken")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    peer = None
    if not options.no_peer:
        try:
            peer = find_peer(VERSION)
        except PeerMissing as missing:
            print(f"Without the peer: {missing}", file=sys.stderr)
    report = Report(machine=machine(), peer=f"Codex {VERSION}" if peer else "", figures=[])
    for name in options.only or MEASURES:
        measure, runs = MEASURES[name]
        print(f"{name} …", file=sys.stderr, flush=True)
        report.figures += measure(options.runs or runs, peer)
    table = report.markdown()
    print(table)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "latest.md").write_text(table)
    (options.out / "latest.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
