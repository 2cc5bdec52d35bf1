"""`clew completion`: scripts for shells."""

from __future__ import annotations

import sys
from typing import Literal

__all__ = ["completion"]


def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print a completion script.

    Parameters
    ----------
    shell
        The shell that reads it.
    """
    from clew.cli.registry import application

    sys.stdout.write(application().generate_completion(prog_name="clew", shell=shell))
