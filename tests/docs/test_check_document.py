"""The page about checking and repairing: its tables are those of the program, its examples happen as shown."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT, Block, blocks, normal, rows, section

from clew.cli.entry import main
from clew.store.findings import CODES
from clew.store.repair import REPAIRS

_CHECK = ROOT / "docs" / "check.md"
_STAMP = re.compile(r"\d{8}T\d{6}\.\d{3}Z")
_PLACES = re.compile(r"\b(line|byte|cut line|off) ?\d+|\b\d+ bytes")


def test_every_code_is_told_with_its_severity_and_its_repair() -> None:
    told = {
        cells[0].strip("`"): (cells[1], cells[2], cells[3].strip("`") or None)
        for cells in rows(section(_CHECK, "Findings"))
    }
    assert told == {code: (known.severity, known.meaning, known.repair) for code, known in CODES.items()}


def test_every_repair_is_told() -> None:
    told = [cells[0].strip("`") for cells in rows(section(_CHECK, "clew repair"))]
    assert told == list(REPAIRS)


def test_a_torn_tail_is_found_cut_and_put_back_as_shown(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tear(house, monkeypatch)
    (block,) = _marked("torn")
    stamp = ""
    shown: list[str] = []
    printed: list[str] = []
    for part in re.split(r"^\$ clew ", block.text, flags=re.M)[1:]:
        command, _, output = part.partition("\n")
        shown.append(f"$ {_plain(command)}\n{_plain(output)}")
        words = _STAMP.sub(stamp, command).split()
        answer = _run(words, monkeypatch).replace(str(house), "/home/ada")
        stamp = next(iter(_STAMP.findall(answer)), stamp)
        printed.append(f"$ {_plain(command)}\n{_plain(answer)}")
    assert printed == shown


def test_a_finding_has_the_members_that_are_shown(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tear(house, monkeypatch)
    (block,) = _marked("torn json")
    told: dict[str, Any] = json.loads(_run(["check", "--json"], monkeypatch).replace(str(house), "/home/ada"))
    (found,) = [each for each in told["findings"] if each["severity"] == "warning"]
    example = json.loads(block.text)
    assert list(found) == list(example)
    numbers = {"line": 0, "offset": 0}
    assert _plain(json.dumps(found | numbers)) == _plain(json.dumps(example | numbers))
    text = section(_CHECK, "clew check")
    assert {name for name in told if f"`{name}`" not in text} == set()


def _marked(mark: str) -> list[Block]:
    return [block for block in blocks(_CHECK) if block.mark == mark]


def _tear(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _run(["exec", "my favourite number is 41"], monkeypatch)
    (path,) = (house / ".codex").rglob("rollout-*.jsonl")
    path.write_bytes(path.read_bytes()[:-20])


def _run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    printed = io.BytesIO()
    out = io.TextIOWrapper(printed, "utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(), "utf-8"))
        patch.setattr(sys, "stdout", out)
        assert main(words) in (0, 1)
    out.flush()
    return printed.getvalue().decode()


def _plain(text: str) -> str:
    """Text without ids, times and places."""
    return _PLACES.sub("N", _STAMP.sub("STAMP", normal(text)))
