"""A server process with fake threads. Arguments: the home, the folder of the threads, and `key=value` for its life."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from clew.server.mcp.lean import prepare

light = prepare()

import anyio  # noqa: E402 - the library is prepared first
from server_fakes import Fake  # noqa: E402 - behind what must run before it

from clew.config import Config, load  # noqa: E402 - behind what must run before it
from clew.server.mcp.serve import Life, serve_stdio  # noqa: E402 - behind what must run before it


def main() -> int:
    home, folder = Path(sys.argv[1]), Path(sys.argv[2])
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)

    def configure(profile: str | None) -> Config:
        return load({"HOME": str(home), "OPENAI_API_KEY": "k"}, profile=profile, codex_home=home, clew_home=home)

    life = Life(on_eof="interrupt") if "interrupt" in sys.argv[3:] else Life()

    async def run() -> int:
        fake = Fake(folder)
        logging.info("light=%s", light)
        return await serve_stdio(configure, fake.open_home, life=life)

    return anyio.run(run)


if __name__ == "__main__":
    sys.exit(main())
