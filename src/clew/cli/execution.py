"""`clew exec`: one turn without questions, for scripts and for programs built on `codex exec`."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO, cast

from cyclopts import Parameter

from clew.cli import terminal
from clew.cli.exec_request import read_request
from clew.cli.options import UsageError
from clew.cli.registry import Options
from clew.errors import ClewError

if TYPE_CHECKING:
    from clew.events import TurnInput

__all__ = ["execute"]

_Switch = Parameter(negative="")
_BYPASS = "--dangerously-bypass-approvals-and-sandbox"


def execute(
    *words: str,
    json: Annotated[bool, Parameter(name=("--json", "--experimental-json"), negative="")] = False,
    last: Annotated[bool, _Switch] = False,
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False,
    image: Annotated[tuple[str, ...], Parameter(name=("--image", "-i"), negative="")] = (),
    add_dir: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    output_schema: Path | None = None,
    output_last_message: Annotated[Path | None, Parameter(name=("--output-last-message", "-o"))] = None,
    skip_git_repo_check: Annotated[bool, _Switch] = False,
    trust: Annotated[bool, _Switch] = False,
    ephemeral: Annotated[bool, _Switch] = False,
    full_auto: Annotated[bool, _Switch] = False,
    bypass: Annotated[bool, Parameter(name=(_BYPASS, "--yolo"), negative="")] = False,
    ignore_user_config: Annotated[bool, _Switch] = False,
    oss: Annotated[bool, _Switch] = False,
    local_provider: str | None = None,
    color: Literal["auto", "always", "never"] = "auto",
    worktree: Annotated[bool, Parameter(negative="", show=False)] = False,
    approve_for_me: Annotated[bool, Parameter(negative="", show=False)] = False,
    ignore_rules: Annotated[bool, Parameter(negative="", show=False)] = False,
    thread_source: Annotated[str | None, Parameter(show=False)] = None,
    cyber_access_program: Annotated[str | None, Parameter(show=False)] = None,
    options: Options,
) -> int:
    """Run one turn.

    Parameters
    ----------
    words
        `resume THREAD` or `fork THREAD`, and the prompt.
    json
        One JSON event per line on standard output.
    last
        With resume: the newest thread of this folder.
    all_
        With --last: of any folder.
    image
        Attach an image file (repeat it, or separate several with commas).
    add_dir
        A further folder that may be written to with workspace-write (repeat it).
    output_schema
        A file with the JSON schema that the final answer must follow.
    output_last_message
        Write the final answer to this file, too.
    skip_git_repo_check
        Run outside of a git repository.
    trust
        Treat this folder as trusted, for this run.
    ephemeral
        Keep nothing on disk.
    full_auto
        Commands may write in this folder: -s workspace-write.
    bypass
        No sandbox, no approvals. Only for machines that are confined themselves.
    ignore_user_config
        Leave the config.toml files out.
    oss
        Use a local model provider.
    local_provider
        Which one (a provider of config.toml); implies --oss.
    color
        Colours on standard error (auto: on a terminal).
    """
    if worktree:
        raise UsageError("--worktree does not exist here", "Make one with `git worktree add`, and name it with -C.")
    if color != "auto":
        os.environ["FORCE_COLOR" if color == "always" else "NO_COLOR"] = "1"
        os.environ.pop("NO_COLOR" if color == "always" else "FORCE_COLOR", None)
    if approve_for_me and not json:
        terminal.warn("--approve-for-me has no effect here: what would need an approval is refused")
    request = read_request(words, last=last, anywhere=all_, literal=options.literal)
    if bypass:
        options = replace(options, sandbox="danger-full-access", approval="never")
    elif full_auto and options.sandbox is None:
        options = replace(options, sandbox="workspace-write")
    if oss or local_provider:
        options = options.with_config(f"model_provider={local_provider or 'ollama'}")

    import anyio

    from clew.cli.exec_run import Run, check_policy, die, run
    from clew.cli.exec_view import HumanView, JsonView
    from clew.cli.opening import load_config, trusted
    from clew.cli.prompt import read_prompt

    with_roots = options.with_roots(add_dir)
    config = load_config(with_roots, user_files=not ignore_user_config)
    check_policy(config)
    stdin = cast("TextIO | None", sys.stdin)  # None when the caller closed it
    text = read_prompt(
        request.prompt,
        None if stdin is None else stdin.buffer,
        tty=stdin is not None and terminal.is_terminal(stdin),
        watched=terminal.is_terminal(sys.stderr),
        say=_say,
    )
    if not (bypass or skip_git_repo_check or trust or trusted(config, options.folder())):
        raise UntrustedFolder
    turn = _turn_input(text, image, output_schema, options.folder())
    if ephemeral and request.action != "start":
        raise UsageError("--ephemeral goes with a new thread only", "Leave out `resume` or `fork`, or --ephemeral.")
    plan = Run(request=request, config=config, options=with_roots, turn=turn, ephemeral=ephemeral)
    outcome = anyio.run(run, plan, JsonView() if json else HumanView())
    if outcome.signal is not None:
        die(outcome.signal)
    if output_last_message is not None:
        if not outcome.message:
            terminal.warn(f"no last agent message; wrote empty content to {output_last_message}")
        output_last_message.write_text(outcome.message or "", encoding="utf-8")
    return outcome.code


class UntrustedFolder(ClewError):
    """A folder that no version control watches; told in these words alone, as programs know them."""

    def __init__(self) -> None:
        super().__init__(
            "Not inside a trusted directory and --skip-git-repo-check was not specified.",
            hint="Nothing here could be undone. Run it in a git repository, or say --trust if that is what you want.",
        )


def _turn_input(text: str, images: tuple[str, ...], schema: Path | None, folder: Path) -> TurnInput:
    from clew.events import TurnInput

    files = tuple(str((folder / name).absolute()) for given in images for name in given.split(",") if name)
    for name in files:
        if not Path(name).is_file():
            raise ClewError(f"there is no image at {name}")
    return TurnInput(
        text=text,
        local_images=files,
        output_schema=None if schema is None else _schema(schema),
        trigger="exec",
    )


def _schema(path: Path) -> dict[str, Any]:
    import msgspec

    try:
        value = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise ClewError(f"the output schema {path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ClewError(f"the output schema {path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ClewError(f"the output schema {path} is not a JSON object")
    return cast("dict[str, Any]", value)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
