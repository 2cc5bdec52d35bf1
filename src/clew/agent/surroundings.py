"""What the model is told besides the conversation: permissions, instructions, folder, date; and what changed of it.

`Surroundings.gather` reads the world; everything else here is pure. The state that belongs to the messages is what the
log keeps as `world_state`: sections with ids, long texts as hashes. Sections of other programs are left as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from clew.agent.agents_md import MOST_BYTES, AgentsText, read_agents_md
from clew.agent.permissions import filesystem_xml, permissions_text
from clew.clock import Clock
from clew.history.world_state import diff, merge
from clew.settings import Settings

__all__ = ["Surroundings", "changed", "fragment_hash", "initial", "time_zone"]

Message = dict[str, Any]
"""A response item without an id."""

_ENVIRONMENT = "local"


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """The world around a turn. `shell` is a name only (`bash`), `date` is `YYYY-MM-DD` in `timezone` (an IANA name).
    `notices` are for people: instruction files that were cut or could not be read."""

    settings: Settings
    agents: AgentsText
    shell: str
    date: str
    timezone: str

    @property
    def notices(self) -> tuple[str, ...]:
        return self.agents.notices

    @classmethod
    def gather(
        cls,
        settings: Settings,
        *,
        codex_home: Path | None,
        clock: Clock,
        shell: str,
        env: Mapping[str, str] | None = None,
        project_doc_max_bytes: int = MOST_BYTES,
        project_doc_fallback_filenames: Sequence[str] = (),
        project_root_markers: Sequence[str] = (".git",),
    ) -> Surroundings:
        """Read instruction files, time zone and date; blocking. `codex_home` None: no personal instructions.
        `env` is asked for `TZ`."""
        agents = read_agents_md(
            Path(settings.cwd),
            codex_home,
            most_bytes=project_doc_max_bytes,
            fallback_names=project_doc_fallback_filenames,
            root_markers=project_root_markers,
        )
        zone = time_zone(env or {})
        moment = datetime.fromtimestamp(clock.now(), UTC).astimezone(zone)
        name = zone.key if zone is not None else moment.tzname()
        return cls(
            settings=settings,
            agents=agents,
            shell=Path(shell).name,
            date=f"{moment:%Y-%m-%d}",
            timezone=name or "Etc/UTC",
        )


def initial(surroundings: Surroundings) -> tuple[list[Message], dict[str, Any]]:
    """The messages that open a window (response items without ids), and the whole world state that belongs to them."""
    messages = [_message("developer", _permissions(surroundings.settings))]
    instructions = surroundings.settings.developer_instructions
    if instructions:
        messages.append(_message("developer", instructions))
    parts = [_agents(surroundings.agents)] if surroundings.agents.text else []
    messages.append(_message("user", *parts, _environment(surroundings, place=True)))
    state = diff({}, _state(surroundings))
    state["permissions"]["approved_command_prefixes"] = []
    return messages, state


def changed(
    surroundings: Surroundings, previous: dict[str, Any], recorded: object = None
) -> tuple[list[Message], dict[str, Any] | None]:
    """What to say when the model was last told `previous` (a world state): messages without ids and the merge patch to
    record behind them; `([], None)` when nothing changed. `recorded` settings are not needed: the state tells all."""
    state = merge(previous, _state(surroundings))
    patch = diff(previous, state)
    if not patch:
        return [], None
    messages: list[Message] = []
    settings = surroundings.settings
    if "model" in patch and isinstance(previous.get("model"), str):
        messages.append(_message("developer", _model_switch(str(previous["model"]), settings.model)))
    if "permissions" in patch:
        messages.append(_message("developer", _permissions(surroundings.settings)))
    if "developer_instructions" in patch:
        messages.append(_message("developer", settings.developer_instructions or _NO_DEVELOPER))
    parts: list[str] = []
    if "agents_md" in patch and surroundings.agents.text:
        parts.append(_agents(surroundings.agents))
    elif "agents_md" in patch and previous.get("agents_md"):
        parts.append(_NO_AGENTS)
    if "environments" in patch:
        inner = cast("dict[str, Any]", patch["environments"])
        parts.append(_environment(surroundings, place="environments" in inner))
    if parts:
        messages.append(_message("user", *parts))
    return messages, patch


def _state(surroundings: Surroundings) -> dict[str, Any]:
    """The sections this program knows, as a merge patch: null says that something is not there."""
    settings, agents = surroundings.settings, surroundings.agents
    instructions = settings.developer_instructions
    return {
        "agents_md": {"directory": agents.directory, "text": agents.text or None},
        "developer_instructions": {"text": fragment_hash("developer", instructions)} if instructions else None,
        "environments": {
            "environments": {_ENVIRONMENT: {"cwd": settings.cwd, "status": "available", "shell": surroundings.shell}},
            "current_date": surroundings.date,
            "timezone": surroundings.timezone,
            "filesystem": filesystem_xml(settings.sandbox, settings.cwd),
        },
        "model": settings.model,
        "permissions": {"instructions": fragment_hash("developer", _permissions(settings))},
    }


def _permissions(settings: Settings) -> str:
    return permissions_text(settings.sandbox, settings.approval, settings.cwd)


def _agents(agents: AgentsText) -> str:
    where = f" for {agents.directory}" if agents.directory else ""
    return f"# AGENTS.md instructions{where}\n\n<INSTRUCTIONS>\n{agents.text}\n</INSTRUCTIONS>"


def _environment(surroundings: Surroundings, *, place: bool) -> str:
    """The environment part; without `place` the folder and the shell are left out."""
    settings = surroundings.settings
    lines = [f"  <cwd>{escape(settings.cwd)}</cwd>", f"  <shell>{escape(surroundings.shell)}</shell>"] if place else []
    lines += [
        f"  <current_date>{surroundings.date}</current_date>",
        f"  <timezone>{escape(surroundings.timezone)}</timezone>",
        f"  {filesystem_xml(settings.sandbox, settings.cwd)}",
    ]
    return "\n".join(["<environment_context>", *lines, "</environment_context>"])


_NO_AGENTS = (
    "# AGENTS.md instructions\n\n<INSTRUCTIONS>\nNo AGENTS.md applies here. What such files said earlier in this "
    "conversation no longer holds.\n</INSTRUCTIONS>"
)
_NO_DEVELOPER = "The additional developer instructions given earlier in this conversation no longer hold."


def _model_switch(before: str, now: str) -> str:
    return (
        f"<model_switch>\nUntil here another model ({before}) held this conversation; from here on it is {now}. What "
        "was said and done is yours to build on. The instructions at the beginning hold unchanged.\n</model_switch>"
    )


def _message(role: str, *texts: str) -> Message:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text} for text in texts]}


def fragment_hash(role: str, text: str) -> str:
    """The SHA-1 (hex) that stands for a long text in a world state."""
    digest = hashlib.sha1(b"codex-world-state-fragment-v1\0", usedforsecurity=False)
    for part in (role, text.replace("\r\n", "\n")):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


def time_zone(env: Mapping[str, str], etc: Path = Path("/etc")) -> ZoneInfo | None:
    """The local time zone by its IANA name (`key`); None where the system does not tell one."""
    names = [env.get("TZ", "").removeprefix(":")]
    with suppress(OSError):
        _, found, name = str((etc / "localtime").readlink()).partition("zoneinfo/")
        names.append(name if found else "")
    with suppress(OSError, UnicodeDecodeError):
        names.append((etc / "timezone").read_text().strip())
    for name in filter(None, names):
        with suppress(ZoneInfoNotFoundError, ValueError, OSError):
            return ZoneInfo(name)
    return None
