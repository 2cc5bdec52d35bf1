"""A lighter way to import the MCP library, for the server process alone.

The library's packages import its client half and a second server framework as soon as they are touched; a server over
stdio needs neither. `prepare` puts the packages in place without running their `__init__` files, so that the modules
below them import as always, only sooner. It must run before anything of `mcp` was imported, and belongs to a process
that serves and does nothing else: whoever imports `mcp` names later in the same process would find the packages bare.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

__all__ = ["prepare"]

_PACKAGES = ("mcp", "mcp.server")
_NEEDED = "mcp.server.lowlevel"
_NEEDED_BARE = "mcp.server.lowlevel.server"


def prepare() -> bool:
    """Make `mcp.server.lowlevel` importable the light way; tells whether that worked.

    Falls back to the plain import when the library is built differently from what is expected here, and leaves an
    already imported `mcp` as it is.
    """
    if "mcp" in sys.modules:
        return False
    try:
        for name in _PACKAGES:
            _install_bare(name)
        importlib.import_module(_NEEDED_BARE)
    except Exception:
        for name in [name for name in sys.modules if name == "mcp" or name.startswith("mcp.")]:
            del sys.modules[name]
        importlib.import_module(_NEEDED)
        return False
    return True


def _install_bare(name: str) -> None:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError(f"{name} is no package")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
