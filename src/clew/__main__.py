"""`python -m clew`, the same as `clew`."""

from __future__ import annotations

import sys

from clew.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
