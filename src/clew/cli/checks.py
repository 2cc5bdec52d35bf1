"""The single checks of `clew doctor`. Each looks at one thing and changes nothing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import msgspec

from clew.errors import ClewError, ConfigInvalid, KeyMissing
from clew.settings import SandboxMode

if TYPE_CHECKING:
    from clew.config import Config, Provider

__all__ = [
    "Check",
    "check_config",
    "check_home",
    "check_programs",
    "check_provider",
    "check_sandbox",
    "check_threads",
    "check_user",
    "count_threads",
    "keys",
    "programs",
    "versions",
]

_SECONDS = 5.0
_SYNCED = re.compile(
    r"(dropbox|onedrive|google ?drive|my drive|icloud ?drive|mobile documents|com~apple~clouddocs|cloudstorage"
    r"|nextcloud|owncloud|pcloud ?drive|box sync)([ -].*)?",
    re.IGNORECASE,
)
_NETWORK_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "afs", "fuse.rclone"})


class Check(msgspec.Struct, frozen=True):
    """One finding: `message` is a sentence, `hint` what to do (may be empty)."""

    name: str
    status: Literal["ok", "warning", "problem"]
    message: str
    hint: str = ""

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "status": self.status, "message": self.message, "hint": self.hint}


def versions(env: Mapping[str, str]) -> dict[str, str | None]:
    """Versions of clew and what it stands on; None for what is not there."""
    return {
        "clew": _package("clew"),
        "python": platform.python_version(),
        "mcp": _package("mcp"),
        "codex": _program_version("codex", env),
    }


def check_config(config: Config, problems: Sequence[ConfigInvalid]) -> list[Check]:
    out = [
        Check("Configuration", "problem", str(error).replace("\n", " ").strip(), "Correct this line.")
        for error in problems
    ]
    out += [Check("Configuration", "warning", warning) for warning in config.warnings]
    if not problems:
        files = [home / "config.toml" for home in (config.codex_home, config.clew_home)]
        there = [str(path) for path in files if path.is_file()]
        read = f"read from {' and '.join(there)}" if there else "no config.toml; defaults hold"
        out.insert(0, Check("Configuration", "ok", read))
    return out


def check_home(name: str, home: Path) -> list[Check]:
    """Whether a home can be written, and whether it lies where locks and single appends cannot be trusted."""
    out: list[Check] = []
    base = next(folder for folder in (home, *home.parents) if folder.exists())
    if not base.is_dir():
        out.append(Check(name, "problem", f"{base} is not a folder", "Move it away, or name another home."))
    elif not os.access(base, os.W_OK | os.X_OK):
        out.append(
            Check(name, "problem", f"{base} cannot be written", "Change its owner or mode, or name another home.")
        )
    elif home.exists():
        out.append(Check(name, "ok", f"{home}, writable"))
    else:
        out.append(Check(name, "ok", f"{home}, made when it is first needed"))
    real = Path(os.path.realpath(base))
    synced = next((part for part in real.parts if _SYNCED.fullmatch(part)), None)
    if synced is None and any((folder / ".stfolder").exists() for folder in (real, *real.parents)):
        synced = "Syncthing"
    if synced is not None:
        out.append(
            Check(
                name,
                "warning",
                f"{home} lies in a folder that {synced} keeps in step with other machines",
                "Two machines that write one thread get conflicting copies of it. Keep the home on a local disk.",
            )
        )
    system = _file_system(real)
    if system in _NETWORK_SYSTEMS:
        out.append(
            Check(
                name,
                "warning",
                f"{home} lies on a network file system ({system})",
                "Writer locks may not reach other machines there. Keep the home on a local disk.",
            )
        )
    login = home / "auth.json"
    if sys.platform != "win32" and login.is_file() and login.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        out.append(Check(name, "warning", f"others may read {login}", f"chmod 600 {login}"))
    return out


def count_threads(codex_home: Path, clew_home: Path) -> dict[str, Any]:
    """How many threads there are, which ones somebody is writing (`held`), and the ids of those of whose lock a killed
    program left something (`left`)."""
    from clew.rollout.filesystem import RealFileSystem
    from clew.rollout.layout import Home
    from clew.store.holds import Holds

    files = RealFileSystem()
    archived = [thread.archived for thread in Home(files, codex_home).threads()]
    held: list[dict[str, Any]] = []
    left: list[str] = []
    for hold in Holds(files, codex_home, clew_home).all():
        if hold.state == "held":
            held.append({"thread_id": hold.thread_id, "owner": str(hold.owner or "another program")})
        elif hold.state == "left":
            left.append(hold.thread_id)
    return {"active": archived.count(False), "archived": archived.count(True), "held": held, "left": left}


def check_threads(threads: Mapping[str, Any]) -> list[Check]:
    name, held, left = "Threads", threads["held"], threads["left"]
    message = f"{threads['active']} found, and {threads['archived']} archived"
    out = [Check(name, "ok", f"{message}; {len(held)} held" if held else message)]
    out += [Check(name, "ok", f"{entry['thread_id']} is being written by {entry['owner']}") for entry in held]
    if left:
        message = (
            f"a killed program left the locks of {len(left)} thread{'' if len(left) == 1 else 's'}; they hold nobody up"
        )
        out.append(Check(name, "ok", message, "To remove them: clew unlock --all"))
    return out


def keys(config: Config) -> list[dict[str, Any]]:
    """Which providers need a key, and whether it is there. Never the key."""
    out: list[dict[str, Any]] = []
    for provider_id in config.providers:
        try:
            provider = config.provider(provider_id)
        except ConfigInvalid:
            continue
        if provider.env_key:
            out.append({"provider": provider_id, "variable": provider.env_key, "present": bool(provider.bearer_token)})
    return out


def check_provider(config: Config, *, online: bool, env: Mapping[str, str]) -> list[Check]:
    """Whether a turn could be asked for: the provider is known, has its key, and (if asked) answers."""
    name = "Model provider"
    try:
        provider = config.provider(config.model_provider)
        provider.check_key()
    except KeyMissing as error:
        return [Check(name, "problem", error.message, error.hint)]
    except ClewError as error:
        return [Check(name, "problem", str(error).replace("\n", " ").strip(), error.hint)]
    if not provider.base_url:
        return [Check(name, "ok", f"{provider.name}: needs no network and no key")]
    key = "with a key" if provider.bearer_token else "without a key"
    shown = _shown(provider.base_url)
    if not online:
        message = f"{provider.name} at {shown}, {key}; `--online` sees whether it answers"
        return [Check(name, "ok", message)]
    where, why = _connect(provider, env)
    if why:
        return [
            Check(name, "problem", f"{where} does not answer: {why}", "Check the network, the proxy and `base_url`.")
        ]
    return [Check(name, "ok", f"{provider.name} at {shown}, {key}; {where} answers")]


def _connect(provider: Provider, env: Mapping[str, str]) -> tuple[str, str]:
    """Where a connection was tried, and why it failed (empty: it did not)."""
    target = urlsplit(provider.base_url)
    proxy = _proxy(target.scheme, target.hostname or "", env)
    if proxy:
        target = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    host = target.hostname or ""
    try:
        port = target.port or (443 if target.scheme == "https" else 80)
        where = f"{'the proxy ' if proxy else ''}{host}:{port}"
        with socket.create_connection((host, port), timeout=_SECONDS):
            return where, ""
    except (OSError, ValueError) as error:
        return f"{'the proxy ' if proxy else ''}{host}", str(error)


def _proxy(scheme: str, host: str, env: Mapping[str, str]) -> str:
    excluded = [entry.strip().lstrip(".") for entry in (env.get("no_proxy") or env.get("NO_PROXY") or "").split(",")]
    if any(entry == "*" or (entry and (host == entry or host.endswith(f".{entry}"))) for entry in excluded):
        return ""
    names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY")
    return next((value for name in names if (value := env.get(name))), "")


def check_sandbox(config: Config, env: Mapping[str, str]) -> tuple[dict[str, Any], list[Check]]:
    """How commands are confined here, and whether that fits what is configured."""
    name, mode = "Sandbox", config.sandbox.mode
    try:
        from clew.agent.sandbox import detect
    except ImportError:
        found: dict[str, Any] = {"mode": mode.value, "mechanism": "none", "available": False}
        return found, [Check(name, "problem", "this installation cannot confine commands")]
    confinement = detect(env)
    found = {
        "mode": mode.value,
        "mechanism": confinement.mechanism.value,
        "available": confinement.available,
        "reason": confinement.reason,
    }
    if mode is SandboxMode.FULL_ACCESS:
        hint = "Set `sandbox_mode` to workspace-write, unless this machine is a sandbox itself."
        return found, [Check(name, "warning", f"configured is {mode.value}: commands run unconfined", hint)]
    if not confinement.available:
        message = f"{mode.value} is configured, and commands cannot be confined here: {confinement.reason}"
        return found, [Check(name, "warning", message, "Install bubblewrap. Until then every command is asked about.")]
    return found, [Check(name, "ok", f"{mode.value}, by {confinement.mechanism.value}: {confinement.reason}")]


def programs(env: Mapping[str, str]) -> dict[str, str | None]:
    """Where helpful programs lie; None: not on PATH."""
    return {name: shutil.which(name, path=env.get("PATH")) for name in ("git", "rg", "codex")}


def check_programs(found: Mapping[str, str | None]) -> list[Check]:
    out: list[Check] = []
    if found["git"]:
        out.append(Check("git", "ok", str(found["git"])))
    else:
        out.append(Check("git", "warning", "not on PATH", "Without it, threads do not record branch and commit."))
    if found["rg"]:
        out.append(Check("ripgrep", "ok", str(found["rg"])))
    else:
        out.append(
            Check("ripgrep", "warning", "rg is not on PATH", "The model searches faster with it: install ripgrep.")
        )
    return out


def check_user() -> list[Check]:
    if sys.platform != "win32" and os.geteuid() == 0:
        return [
            Check("User", "warning", "running as root", "Commands of threads run as root too. Use an ordinary user.")
        ]
    return []


def _package(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _program_version(name: str, env: Mapping[str, str]) -> str | None:
    path = shutil.which(name, path=env.get("PATH"))
    if path is None:
        return None
    try:
        done = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\d+\.\d+\S*", done.stdout.decode(errors="replace"))
    return found[0] if found else None


def _file_system(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """The type of the file system a path lies on, where the system tells it."""
    try:
        rows = [row.split() for row in mounts.read_text(errors="replace").splitlines()]
    except OSError:
        return None
    best, kind = -1, None
    for row in rows:
        if len(row) < 3:
            continue
        point = Path(row[1].encode("latin-1", "replace").decode("unicode_escape"))
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), row[2]
    return kind


def _shown(url: str) -> str:
    return re.sub(r"(://)[^/@\s]+@", r"\1", url)
