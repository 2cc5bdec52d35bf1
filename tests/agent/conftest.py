from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_bench import Script, Workshop

from clew.testing import Directives, ScriptedEndpoint


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def directives() -> Directives:
    return Directives()


@pytest.fixture
def workshop(tmp_path: Path, directives: Directives) -> Iterator[Workshop]:
    """An agent whose model does what prompts say; `workshop.script` takes precedence while it has steps."""
    script = Script(directives)
    with ScriptedEndpoint(script) as endpoint:
        yield Workshop(tmp_path, endpoint, script)
