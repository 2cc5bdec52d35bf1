"""How this machine confines commands, and the argv that does it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from clew.agent.sandbox import launch
from clew.agent.sandbox.roots import Roots, writable_roots
from clew.errors import SandboxUnavailable
from clew.settings import Sandbox, SandboxMode

__all__ = ["Confinement", "Mechanism", "detect"]

_PROBE_SECONDS = 5
_LAUNCHER = str(Path(launch.__file__).resolve())
_SEATBELT = "/usr/bin/sandbox-exec"


class Mechanism(StrEnum):
    BUBBLEWRAP = "bubblewrap"
    LANDLOCK = "landlock"
    SEATBELT = "seatbelt"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """The mechanism found. `reason` says why it was taken and what it cannot do, for people.

    `program` is the path of `bwrap`; `mounts` says that a private view of the file system can be made (bubblewrap:
    with a fresh /proc), without which Landlock cannot protect `.git` and the like inside a writable root.
    """

    mechanism: Mechanism
    reason: str
    program: str | None = None
    mounts: bool = False

    @property
    def available(self) -> bool:
        return self.mechanism is not Mechanism.NONE

    def wrap(
        self, argv: Sequence[str], *, cwd: str, policy: Sandbox, environment: Mapping[str, str], tty: bool = False
    ) -> list[str]:
        """The argv that runs `argv` within the policy; with `tty` its terminal becomes the controlling one.

        Raises `SandboxUnavailable` where the policy asks for confinement and the machine has none.
        """
        if policy.mode is SandboxMode.FULL_ACCESS:
            return [*_launcher("--tty"), "--", *argv] if tty else list(argv)
        roots = writable_roots(policy, cwd, environment)
        network = policy.network_access and policy.mode is SandboxMode.WORKSPACE_WRITE
        match self.mechanism:
            case Mechanism.LANDLOCK:
                return self._landlock(argv, roots, network=network, tty=tty)
            case Mechanism.BUBBLEWRAP:
                return self._bubblewrap(argv, cwd, roots, network=network, tty=tty)
            case Mechanism.SEATBELT:
                inner = [*_launcher("--tty"), "--"] if tty else []
                return [_SEATBELT, "-p", seatbelt_profile(roots, network=network), *inner, *argv]
            case Mechanism.NONE:
                raise SandboxUnavailable(f"commands cannot be confined to {policy.mode} here: {self.reason}")

    def _landlock(self, argv: Sequence[str], roots: Roots, *, network: bool, tty: bool) -> list[str]:
        words = _launcher("--landlock", "--filter", "--parent", str(os.getpid()))
        if self.mounts:
            words.append("--mounts")
            if roots.writable and Path("/dev/shm").is_dir():  # noqa: S108 - shared memory gets a private place
                words.append("--shm")
            for path in _existing(roots.protected):
                words += ["--protect", path]
        for root in roots.writable:
            words += ["--write", str(root)]
        words += ["--no-network"] * (not network) + ["--tty"] * tty
        return [*words, "--", *argv]

    def _bubblewrap(self, argv: Sequence[str], cwd: str, roots: Roots, *, network: bool, tty: bool) -> list[str]:
        assert self.program is not None
        # The terminal is taken outside: within, the command is no longer the leader of its session.
        words = [*_launcher("--tty"), "--"] if tty else []
        words += [self.program, *_BUBBLEWRAP, *(["--proc", "/proc"] if self.mounts else [])]
        words += ["--unshare-net"] * (not network)
        binds = [("--bind", str(root)) for root in roots.writable]
        binds += [("--ro-bind", path) for path in _existing(roots.protected)]
        for option, path in sorted(binds, key=lambda bind: len(Path(bind[1]).parts)):
            words += [option, path, path]
        words += ["--chdir", cwd, "--", *_launcher("--filter")] + ["--no-network"] * (not network)
        return [*words, "--", *argv]


_BUBBLEWRAP = ("--die-with-parent", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "--dev", "/dev")


def _launcher(*options: str) -> list[str]:
    return [sys.executable, "-I", "-S", _LAUNCHER, *options]


def _existing(paths: Sequence[Path]) -> list[str]:
    return [str(path) for path in paths if path.exists()]


def detect(environment: Mapping[str, str]) -> Confinement:
    """Find out what this machine has, by trying it. Takes some milliseconds; run it in a thread."""
    if sys.platform == "darwin":
        if Path(_SEATBELT).exists():
            return Confinement(mechanism=Mechanism.SEATBELT, reason="sandbox-exec is part of the system", mounts=True)
        return Confinement(mechanism=Mechanism.NONE, reason=f"{_SEATBELT} is missing")
    if sys.platform != "linux":
        return Confinement(mechanism=Mechanism.NONE, reason=f"no mechanism is known for {sys.platform}")
    if platform.machine() not in ("x86_64", "aarch64"):
        return Confinement(mechanism=Mechanism.NONE, reason=f"no system call filter for {platform.machine()}")
    program = shutil.which("bwrap", path=environment.get("PATH"))
    why_not = "bwrap is not installed"
    if program:
        for proc in (("--proc", "/proc"), ()):
            why_not = _try([program, *_BUBBLEWRAP, *proc, "--unshare-net", "--", *_launcher("--filter"), "--", "true"])
            if not why_not:
                reason = f"{program} works" + ("" if proc else ", without a /proc of its own")
                return Confinement(mechanism=Mechanism.BUBBLEWRAP, reason=reason, program=program, mounts=bool(proc))
        why_not = f"bwrap does not work ({why_not})"
    abi = launch.landlock_abi()
    if abi < launch.LOWEST_ABI:
        level = f"Landlock version {abi} is too old" if abi else "the kernel has no Landlock"
        return Confinement(mechanism=Mechanism.NONE, reason=f"{why_not}; {level}")
    failure = _try([*_launcher("--landlock", "--filter", "--no-network"), "--", "true"])
    if failure:
        return Confinement(mechanism=Mechanism.NONE, reason=f"{why_not}; Landlock does not work ({failure})")
    no_mounts = _try([*_launcher("--mounts", "--landlock", "--filter", "--no-network"), "--", "true"])
    reason = f"{why_not}; Landlock version {abi} works"
    if no_mounts:
        reason += f", but .git and the like inside writable folders cannot be protected ({no_mounts})"
    return Confinement(mechanism=Mechanism.LANDLOCK, reason=reason, mounts=not no_mounts)


def _try(argv: Sequence[str]) -> str:
    """Why a probe fails; empty when it works."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return "" if done.returncode == 0 else (lines[-1] if lines else f"exit code {done.returncode}")


def seatbelt_profile(roots: Roots, *, network: bool) -> str:
    """The profile for macOS: everything may be read and run; writes and the network as the policy says."""
    lines = ["(version 1)", "(allow default)", "(deny file-write*)"]
    lines += [f"(allow file-write* (subpath {_quoted(root)}))" for root in roots.writable]
    # Later rules win, so the protected places are closed after the roots and roots inside them opened again.
    for path in roots.protected:
        lines.append(f"(deny file-write* (subpath {_quoted(path)}))")
        lines += [
            f"(allow file-write* (subpath {_quoted(root)}))" for root in roots.writable if root.is_relative_to(path)
        ]
    devices = " ".join(
        f'(literal "{path}")' for path in ("/dev/null", "/dev/zero", "/dev/tty", "/dev/dtracehelper", "/dev/ptmx")
    )
    lines.append(f'(allow file-write* {devices} (regex #"^/dev/ttys[0-9]+$") (regex #"^/dev/fd/"))')
    if not network:
        lines += ["(deny network*)", "(allow network* (remote unix-socket) (local unix-socket))"]
    return "\n".join(lines)


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
