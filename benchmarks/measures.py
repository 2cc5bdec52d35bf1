"""What is measured, and how."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from figures import Figure
from rollouts import Built, build
from servers import Clew, Codex, Server

from clew.testing.endpoint import ScriptedEndpoint, Step, say
from drivers import CLEW, Peer, Request, Told, World

__all__ = ["restarts", "starts", "turns"]

Make = Callable[[World], Clew | Codex]


class _Stage:
    """Fresh homes by name, all with one instant model: every request is answered at once with one short message."""

    def __init__(self, folder: Path, endpoint: ScriptedEndpoint) -> None:
        self._folder = folder
        self._endpoint = endpoint

    def world(self, name: str) -> World:
        return World(self._folder / name, self._endpoint.base_url)

    def told(self) -> list[Told]:
        """The conversation as the model was told it last."""
        return Request(self._endpoint.requests[-1].body).told


@contextmanager
def _stage() -> Generator[_Stage]:
    instant = Step(items=[say("Done.")], deltas=False, times=-1)
    with ScriptedEndpoint([instant]) as endpoint, TemporaryDirectory(prefix="clew-bench-") as folder:
        yield _Stage(Path(folder), endpoint)


def _makers(peer: Peer | None) -> dict[str, Make]:
    makers: dict[str, Make] = {"clew": Clew}
    if peer is not None:
        makers["peer"] = lambda world: Codex(peer, world)
    return makers


# -- starting


def starts(runs: int, peer: Peer | None) -> list[Figure]:
    """From the start of the process to the answer to `initialize`, and `clew --help`; warm, with bytecode."""
    with _stage() as stage:
        world = stage.world("start")
        answers: dict[str, list[float]] = {"clew": [], "peer": []}
        cpu: dict[str, list[float]] = {"clew": [], "peer": []}
        bare: list[float] = []
        sdk: list[float] = []
        helps: list[float] = []
        for number in range(runs + 2):
            for who, make in _makers(peer).items():
                with make(world) as server:
                    answers[who].append(server.initialize() * 1000)
                    cpu[who].append(server.cost().cpu * 1000)
            helps.append(_wall((*CLEW, "--help"), world))
            bare.append(_wall((sys.executable, "-c", "pass"), world))
            sdk.append(_sdk_import(world))
            if number == 1:  # the first two only warm the caches
                for values in (*answers.values(), *cpu.values(), bare, sdk, helps):
                    values.clear()
    rest = [whole - one - other for whole, one, other in zip(answers["clew"], bare, sdk, strict=True)]
    return [
        Figure(
            name="start to the answer to `initialize`",
            unit="ms",
            runs=tuple(answers["clew"]),
            peer_runs=tuple(answers["peer"]),
            target=700,
        ),
        Figure(name="… CPU until then", unit="ms", runs=tuple(cpu["clew"]), peer_runs=tuple(cpu["peer"])),
        Figure(name="… of it a bare Python", unit="ms", runs=tuple(bare)),
        Figure(name="… of it importing the MCP SDK and what it needs", unit="ms", runs=tuple(sdk)),
        Figure(name="… of it ours", unit="ms", runs=tuple(rest)),
        Figure(name="`clew --help`", unit="ms", runs=tuple(helps), target=150),
    ]


def _wall(command: Sequence[str], world: World) -> float:
    """Milliseconds until a program has ended."""
    begin = time.perf_counter()
    subprocess.run(command, cwd=world.work, env=world.env, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return (time.perf_counter() - begin) * 1000


def _sdk_import(world: World) -> float:
    """Milliseconds that a start of `clew mcp` spends importing the MCP SDK, with what only that brings in, by Python's
    own count (which costs a little itself)."""
    command = (sys.executable, "-X", "importtime", *CLEW, "mcp")
    done = subprocess.run(
        command, cwd=world.work, env=world.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    )
    rows = re.findall(r"^import time:\s+\d+ \|\s+(\d+) \|( +)(\S+)$", done.stderr, re.M)
    total, inside = 0, 0
    for microseconds, indent, name in reversed(rows):  # a module stands behind those that it imported
        depth = len(indent)
        if inside and depth > inside:
            continue
        inside = 0
        if name.partition(".")[0] in {"mcp", "mcp_types"}:
            total += int(microseconds)
            inside = depth
    return total / 1000


# -- turns


def turns(runs: int, peer: Peer | None, *, each: int = 60) -> list[Figure]:
    """Turns of one line, one after the other in one thread, with an instant model: what each costs the server."""
    values: dict[str, dict[str, list[float]]] = {
        who: {key: [] for key in ("wall", "cpu", "written", "log")} for who in ("clew", "peer")
    }
    with _stage() as stage:
        for number in range(runs):
            for who, make in _makers(peer).items():
                world = stage.world(f"turns-{who}-{number}")
                got = values[who]
                with make(world) as server:
                    server.initialize()
                    thread_id = server.start("Hello.")
                    for place in range(9):
                        server.reply(thread_id, f"Warm up {place}.")
                    server.settle()
                    before, size, begin = server.cost(), _logged(world), time.perf_counter()
                    for place in range(each):
                        server.reply(thread_id, f"Turn {place}.")
                    wall = time.perf_counter() - begin
                    cost = server.cost().since(before)
                got["wall"].append(wall / each * 1000)
                got["cpu"].append(cost.cpu / each * 1000)
                got["written"].append(cost.written / each / 1000)
                got["log"].append((_logged(world) - size) / each / 1000)

    def figure(name: str, unit: str, key: str, target: float | None = None) -> Figure:
        return Figure(
            name=name,
            unit=unit,
            runs=tuple(values["clew"][key]),
            peer_runs=tuple(values["peer"][key]),
            target=target,
        )

    return [
        figure("one turn, instant model: CPU", "ms", "cpu", 10),
        figure("one turn: written to files", "KB", "written", 30),
        figure("… of it the log", "KB", "log"),
        figure("one turn: from call to answer", "ms", "wall"),
    ]


def _logged(world: World) -> int:
    """Bytes of all rollouts."""
    return sum(path.stat().st_size for path in world.rollouts())


# -- restarts


def restarts(runs: int, peer: Peer | None, *, megabytes: float = 123.0) -> list[Figure]:
    """The first reply after a restart: to a long thread that was compacted near its end, beside a small one."""
    above: dict[str, list[float]] = {"clew": [], "peer": []}
    peaks: dict[str, list[float]] = {"clew": [], "peer": []}
    small_ones: dict[str, list[float]] = {"clew": [], "peer": []}
    told: list[list[Told]] = []
    with _stage() as stage:
        world = stage.world("restart")
        big = build(world.home, world.work, megabytes=megabytes)
        small = build(world.home, world.work, megabytes=0.05, seed=2)
        for who, make in _makers(peer).items():
            for number in range(runs + 1):
                small_ms, _ = _first_reply(make(world), small)
                big_ms, peak = _first_reply(make(world), big)
                told.append(stage.told())
                if number:  # the first run warms the caches, and lets the peer build its databases
                    small_ones[who].append(small_ms)
                    above[who].append(big_ms - small_ms)
                    peaks[who].append(peak)
    if any(each != told[0] for each in told) or len(told[0]) < 100:
        raise RuntimeError("the model was not told the same history each time: these figures mean nothing")
    size = f"{big.size / 1e6:.0f} MB legacy thread"
    return [
        Figure(
            name="first reply after a restart, small thread",
            unit="ms",
            runs=tuple(small_ones["clew"]),
            peer_runs=tuple(small_ones["peer"]),
        ),
        Figure(
            name=f"… {size}, compacted {big.live / 1e6:.1f} MB before its end: above the small one",
            unit="ms",
            runs=tuple(above["clew"]),
            peer_runs=tuple(above["peer"]),
            target=60,
        ),
        Figure(
            name=f"… {size}: peak memory above idle",
            unit="MB",
            runs=tuple(peaks["clew"]),
            peer_runs=tuple(peaks["peer"]),
            target=40,
        ),
    ]


def _first_reply(server: Server, built: Built) -> tuple[float, float]:
    """Milliseconds of the first reply of a fresh server, and its peak of memory above what it held before, in MB. The
    thread is brought back to its size afterwards."""
    assert isinstance(server, Clew | Codex)
    with server:
        server.initialize()
        server.settle()
        server.forget_peak()
        idle = server.memory().now
        begin = time.perf_counter()
        server.reply(built.thread_id, "Go on.")
        elapsed = time.perf_counter() - begin
        peak = server.memory().peak
    os.truncate(built.path, built.size)
    return elapsed * 1000, peak - idle
