"""The public namespace: what it promises, and that it stays light."""

from __future__ import annotations

import subprocess
import sys

import clew
from clew.testing.offline import OfflineModel


def test_every_public_name_is_there_and_the_list_is_sorted() -> None:
    assert clew.__all__ == sorted(clew.__all__)
    assert {name: getattr(clew, name, None) for name in clew.__all__ if getattr(clew, name, None) is None} == {}
    assert set(clew.__all__) <= set(dir(clew))


def test_the_offline_model_is_public() -> None:
    assert OfflineModel.__module__ == "clew.testing.offline"


def test_importing_clew_loads_nothing_heavy() -> None:
    heavy = "{'anyio', 'asyncio', 'cyclopts', 'httpx2', 'mcp', 'msgspec', 'rich', 'zstandard'}"
    code = f"import sys, clew; print(sorted({heavy} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"
