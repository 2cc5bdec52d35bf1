"""Every error clew raises, named for the situation and not for the layer.

    ClewError
    ├── ThreadNotFound            nothing on disk carries this id or name
    ├── AmbiguousName             several threads fit; `candidates` lists them
    ├── ThreadArchived            the thread must be unarchived first
    ├── ThreadBusy                another program writes the thread; `owner` says who, where known
    ├── ThreadProtected           the thread is kept: others inherit from it, or it is pinned
    ├── ThreadInTheWay            a thread cannot come out of the trash: one of its id is there
    ├── StaleLease                the lease was lost; nothing was written with it
    ├── LogDamaged                a log cannot be read at all; `path`, `line`, `why`
    ├── LogReplaced               the file under an open writer is another one now
    ├── DiskFull                  the disk took no more; what was not written is kept by the writer
    ├── SyncFailed                the disk refused to confirm a write
    ├── HomeUnwritable            the home takes no files: read-only, or not ours
    ├── CompressionRunning        another run compresses the threads of this home
    ├── UnsupportedHistory        a history mode this version does not know: refused, not guessed
    ├── WiderSandbox              a resume would get more rights than the thread recorded
    ├── FolderGone                the thread's working directory does not exist any more
    ├── ConfigInvalid             a configuration file or override is wrong; `path`, `line`, `why`
    ├── ProviderUnknown           the model provider is not configured here
    ├── KeyMissing                the provider's API key is not in the environment
    ├── ModelError                the model endpoint failed; `kind`, `status`, `retry_after`
    │   ├── ContextFull           the request is longer than the model's window
    │   └── EndpointUnreachable   no connection to the endpoint
    ├── TurnFailed                a turn ended without success; `turn_id`, `kind`
    ├── ToolDenied                policy or person refused a tool call
    ├── PatchInvalid              a patch cannot be read or applied
    ├── SandboxUnavailable        no way to confine commands on this machine
    ├── SearchStopped             a search was ended before it was through
    ├── BadRequest                an argument is wrong; `field`, `why`
    └── Unsupported               this operation does not exist for this thread or store

Each carries `message` (what happened, to which thread), `hint` (what the user can do next, may be empty) and
`thread_id` where one is concerned. Faces map the classes to their own codes in one table each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = [
    "AmbiguousName",
    "BadRequest",
    "ClewError",
    "CompressionRunning",
    "ConfigInvalid",
    "ContextFull",
    "DiskFull",
    "EndpointUnreachable",
    "FolderGone",
    "HomeUnwritable",
    "KeyMissing",
    "LogDamaged",
    "LogReplaced",
    "ModelError",
    "Owner",
    "PatchInvalid",
    "ProviderUnknown",
    "SandboxUnavailable",
    "SearchStopped",
    "StaleLease",
    "SyncFailed",
    "ThreadArchived",
    "ThreadBusy",
    "ThreadInTheWay",
    "ThreadNotFound",
    "ThreadProtected",
    "ToolDenied",
    "TurnFailed",
    "Unsupported",
    "UnsupportedHistory",
    "WiderSandbox",
]


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a thread: `program` (a command name), `pid` on `host`, `since` (RFC 3339 UTC), the `turn` that runs, as
    far as it is known. `seconds` is how long it had held it when this was found out; `endpoint` is the file in which it
    can be asked for the thread, None when it cannot be asked."""

    program: str
    pid: int | None = None
    host: str | None = None
    since: str | None = None
    turn: str | None = None
    seconds: float | None = field(default=None, compare=False)
    endpoint: str | None = field(default=None, compare=False)

    def __str__(self) -> str:
        text = self.program
        place = " on ".join(part for part in (f"pid {self.pid}" if self.pid else "", self.host or "") if part)
        if place:
            text += f" ({place})"
        if self.since:
            text += f" since {self.since}"
        if self.turn:
            text += f", at work on turn {self.turn}"
            if self.seconds is not None:
                text += f" for {_span(self.seconds)}"
        return text


def _span(seconds: float) -> str:
    """How long, as people say it."""
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if minutes < 1:
        return f"{int(seconds)} s"
    return f"{minutes} min" if hours < 1 else f"{hours} h {minutes % 60} min"


class ClewError(Exception):
    """The root: `str(error)` is one sentence for people, `hint` says what to do next."""

    hint: str = ""

    def __init__(self, message: str, *, hint: str = "", thread_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.thread_id = thread_id
        if hint:
            self.hint = hint

    def explained(self) -> str:
        """The message and, where there is one, the hint behind it."""
        if not self.hint:
            return self.message
        return f"{self.message}{'' if self.message.endswith(('.', '!', '?')) else '.'} {self.hint}"


class ThreadNotFound(ClewError):
    """`reference` is what was looked for; `last` is not found where there is no thread at all."""

    hint: str = "`clew list` shows the threads of this home."

    def __init__(self, reference: str) -> None:
        self.reference = reference
        if self.nothing_yet:
            super().__init__(
                "there is no thread yet",
                hint='Start one: clew exec "…". What was put away is shown by `clew list --archived`.',
            )
            return
        super().__init__(f"no thread is called {reference}", thread_id=reference)
        if 0 < len(reference) < 8 and set(reference.lower()) <= set("0123456789abcdef-"):
            self.hint = f"The beginning of an id needs 8 characters. {self.hint}"

    @property
    def nothing_yet(self) -> bool:
        """Whether the newest thread was asked for and there is none."""
        return self.reference.strip() == "last"


class AmbiguousName(ClewError):
    """`candidates` are the ids of the threads that fit; `told` has a line about each for people, where it is known."""

    def __init__(self, reference: str, candidates: Sequence[str], told: Sequence[str] = ()) -> None:
        lines = "".join(f"\n  {line}" for line in told)
        super().__init__(
            f"{reference!r} fits {len(candidates)} threads: {', '.join(candidates)}",
            hint=f"Give the whole id{':' if lines else '.'}{lines}",
        )
        self.reference = reference
        self.candidates: tuple[str, ...] = tuple(candidates)


class ThreadArchived(ClewError):
    def __init__(self, thread_id: str) -> None:
        super().__init__(
            f"thread {thread_id} is archived",
            hint=f"Unarchive it first: `clew unarchive {thread_id}`.",
            thread_id=thread_id,
        )


class ThreadBusy(ClewError):
    """`owner` None: nobody knows who."""

    def __init__(self, thread_id: str, owner: Owner | None = None) -> None:
        holder = str(owner) if owner else "another program"
        look = f"`clew unlock {thread_id}`"
        if owner is None:
            hint = f"Wait for it to finish, or close it there; {look} tells more."
        elif owner.endpoint is None:
            hint = f"Close the thread there, or wait; {look} removes what a killed program left."
        else:
            hint = f"Wait until its turn ends, or close it there; `clew unlock {thread_id} --force` asks for it."
        super().__init__(f"thread {thread_id} is being written by {holder}", hint=hint, thread_id=thread_id)
        self.owner = owner


class ThreadProtected(ClewError):
    """A thread is not deleted. `heirs` are the threads that inherit lines from it; without any, it is pinned."""

    def __init__(self, thread_id: str, heirs: Sequence[str] = (), *, pinned: bool = False) -> None:
        if pinned:
            super().__init__(
                f"thread {thread_id} is pinned", hint=f"Unpin it first: `clew unpin {thread_id}`.", thread_id=thread_id
            )
        else:
            count = "a thread was" if len(heirs) == 1 else f"{len(heirs)} threads were"
            super().__init__(
                f"thread {thread_id} is kept: {count} forked from it and read its lines: {', '.join(heirs)}",
                hint="Keep it (`clew archive` puts it out of sight), or delete the forks, too: --with-forks.",
                thread_id=thread_id,
            )
        self.heirs = tuple(heirs)
        self.pinned = pinned


class ThreadInTheWay(ClewError):
    """`path` is what is there."""

    def __init__(self, thread_id: str, path: Path | str) -> None:
        super().__init__(
            f"thread {thread_id} cannot be restored: there is {path}",
            hint="Look at what is there (`clew show`), and move or delete it first; nothing was changed.",
            thread_id=thread_id,
        )
        self.path = Path(path)


class StaleLease(ClewError):
    def __init__(self, thread_id: str) -> None:
        super().__init__(f"the lease on thread {thread_id} was lost", hint="Open it again.", thread_id=thread_id)


class LogDamaged(ClewError):
    """`line` is 1-based, 0 when the damage has no line (an empty file, a cut frame)."""

    def __init__(self, path: Path | str, line: int, why: str, *, thread_id: str | None = None) -> None:
        where = f"{path}:{line}" if line else str(path)
        super().__init__(f"{where}: {why}", thread_id=thread_id)
        self.path: Path = Path(path)
        self.line = line
        self.why = why


class LogReplaced(ClewError):
    def __init__(self, path: Path | str, *, thread_id: str | None = None) -> None:
        super().__init__(
            f"{path} was replaced or removed while it was open",
            hint="Another program or a sync tool moved it; open the thread again.",
            thread_id=thread_id,
        )
        self.path: Path = Path(path)


class DiskFull(ClewError):
    hint: str = "Free some space and try again; nothing that was acknowledged is lost."

    def __init__(self, path: Path | str) -> None:
        super().__init__(f"no space left for {path}")
        self.path: Path = Path(path)


class SyncFailed(ClewError):
    hint: str = "The disk may be failing; nothing after the last acknowledgement is certain."

    def __init__(self, path: Path | str, why: str) -> None:
        super().__init__(f"{path} could not be made durable: {why}")
        self.path: Path = Path(path)


class HomeUnwritable(ClewError):
    hint: str = "Check who owns the folder and whether its disk is mounted read-only; `clew doctor` tells more."

    def __init__(self, path: Path | str, why: str, *, thread_id: str | None = None) -> None:
        super().__init__(f"{path} cannot be written: {why}", thread_id=thread_id)
        self.path: Path = Path(path)


class CompressionRunning(ClewError):
    """`path` is the marker of the other run, `pid` its process where that is known."""

    def __init__(self, path: Path | str, pid: int | None = None) -> None:
        super().__init__(
            f"another run compresses the threads of this home{f' (pid {pid})' if pid else ''}",
            hint=f"Try again when it is done. If there is none, remove {path}.",
        )
        self.path: Path = Path(path)
        self.pid = pid


class UnsupportedHistory(ClewError):
    def __init__(self, path: Path | str, mode: str, *, thread_id: str | None = None) -> None:
        super().__init__(
            f"{path} uses the history mode {mode!r}, which this version does not know",
            hint="Update clew.",
            thread_id=thread_id,
        )
        self.mode = mode


class WiderSandbox(ClewError):
    def __init__(self, thread_id: str, recorded: str, asked: str) -> None:
        super().__init__(
            f"thread {thread_id} was recorded with the sandbox {recorded}; {asked} would be wider",
            hint="Name the sandbox in the call itself to widen it.",
            thread_id=thread_id,
        )


class FolderGone(ClewError):
    """`thread_id` None: a new thread was to work there."""

    def __init__(self, cwd: str, *, thread_id: str | None = None) -> None:
        if thread_id is None:
            super().__init__(f"there is no folder {cwd} to work in", hint="Create it, or name another one with `cwd`.")
        else:
            super().__init__(
                f"the working directory of thread {thread_id} is gone: {cwd}",
                hint="If it was moved: `clew relocate OLD NEW`. Else restore it, or name another one with `cwd`.",
                thread_id=thread_id,
            )
        self.cwd = cwd


class ConfigInvalid(ClewError):
    """`line` is 1-based, 0 when the value came from a flag or an argument."""

    def __init__(self, path: Path | str, line: int, why: str) -> None:
        super().__init__(f"{path}:{line}: {why}" if line else f"{path}: {why}")
        self.path: str = str(path)
        self.line = line
        self.why = why


class ProviderUnknown(ClewError):
    """`thread_id` None: a new thread was to use it; else that thread was recorded with it."""

    def __init__(self, provider: str, known: Sequence[str], *, thread_id: str | None = None) -> None:
        message = f"Model provider `{provider}` not found"
        if thread_id is not None:
            message += f"; thread {thread_id} was recorded with it"
        super().__init__(
            message,
            hint=f"Configured are: {', '.join(sorted(known))}. Add [model_providers.{provider}] to config.toml, "
            "or go on with another one: `model_provider` in the call's `config`, `-c model_provider=…` in a terminal.",
            thread_id=thread_id,
        )
        self.provider = provider
        self.known: tuple[str, ...] = tuple(known)


class KeyMissing(ClewError):
    """`instructions` are the provider's own words on how to get a key."""

    def __init__(self, variable: str, provider: str, instructions: str = "") -> None:
        super().__init__(
            f"no API key for the model provider {provider}: {variable} is not set",
            hint=(f"{instructions.strip()} " if instructions.strip() else "")
            + f"Set {variable}, or choose another provider with `model_provider` in config.toml, "
            "or try it without a key: `-c model_provider=offline`.",
        )
        self.variable = variable


class ModelError(ClewError):
    """`kind` is the endpoint's error code or a word of ours (`http_500`, `stream`, `idle`); `status` the HTTP
    status; `retry_after` seconds the endpoint asked for; `detail` the failure as `codex exec --json` words it, None
    where `message` does."""

    def __init__(
        self,
        message: str,
        *,
        kind: str = "other",
        status: int | None = None,
        retry_after: float | None = None,
        hint: str = "",
        detail: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.detail = detail
        self.kind = kind
        self.status = status
        self.retry_after = retry_after


class ContextFull(ModelError):
    def __init__(self, message: str, *, detail: str | None = None) -> None:
        super().__init__(message, kind="context_length_exceeded", detail=detail)


class EndpointUnreachable(ModelError):
    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"no connection to the model endpoint {url}: {why}",
            kind="unreachable",
            hint="Check the network and `base_url` of the provider.",
        )


class TurnFailed(ClewError):
    """A turn ended as failed; what was said up to then is recorded. `kind` is a word for programs, as `ModelError`
    has it."""

    def __init__(self, message: str, *, thread_id: str, turn_id: str, kind: str) -> None:
        super().__init__(message, thread_id=thread_id)
        self.turn_id = turn_id
        self.kind = kind


class ToolDenied(ClewError):
    """The text goes to the model as it is."""


class PatchInvalid(ClewError):
    """The text goes to the model as it is."""


class SandboxUnavailable(ClewError):
    hint: str = "Install bubblewrap, or allow the command to run unconfined."


class SearchStopped(ClewError):
    def __init__(self) -> None:
        super().__init__("the search was stopped before it was through")


class BadRequest(ClewError):
    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


class Unsupported(ClewError):
    def __init__(self, operation: str, why: str = "") -> None:
        super().__init__(f"{operation} is not supported{f': {why}' if why else ''}")
        self.operation = operation
