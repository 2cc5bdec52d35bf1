"""Help texts: complete, honest, narrow enough; and completion scripts."""

from __future__ import annotations

import shlex
import shutil
import subprocess

import pytest
from inline_snapshot import snapshot

from clew.cli import main
from clew.cli.commands import COMMANDS
from clew.cli.completion import _GLOBAL  # pyright: ignore[reportPrivateUsage] - held to the options that are parsed
from clew.cli.options import GLOBAL_HELP, take_globals
from clew.cli.registry import parse


@pytest.fixture(autouse=True)
def _screen(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] - a fixture
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def _help(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main([*words, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return "\n".join(line.rstrip() for line in out.splitlines())


def test_the_first_help(capsys: pytest.CaptureFixture[str]) -> None:
    text = _help(capsys)
    assert text == snapshot("""\
Usage: clew COMMAND [OPTIONS]

Never lose the thread of a coding agent.

Threads:
  list, ls         List threads, newest first.
  search           Find threads by words, best first.
  grep             Find threads by a regular expression or an exact text.
  show             Show what happened in a thread.
  chat             Talk to the agent in the terminal, in a new thread.
  resume           Go on with a thread in the terminal; choose it from a list.
  exec, e          Run one turn, in a new thread or in one that goes on.
  tree             Show which threads were forked or spawned from which.
  diff             Show where two threads part, and what each did then.

Servers:
  mcp, mcp-server  Serve the tools `codex` and `codex-reply` to MCP clients.

Keeping threads:
  fork             Copy a thread, whole or up to a turn; prints the new id.
  revert           Take a thread back to where a turn began.
  rename           Give a thread a name, or take it away.
  save             Save a thread under a name; the newest save of a name counts.
  tag              Put tags on a thread, or print them.
  pin              Pin threads: they are never deleted or put away by rule.
  unpin            Take the pin off again.
  note             Put a note on a thread, or print it.
  archive          Put threads away, with those they spawned; they stay on disk.
  unarchive        Take archived threads out again.
  delete           Delete threads, with those they spawned; they can come back.
  trash            Show what was deleted, put it back, or remove it for good.
  retention        Show what the retention rules of config.toml would do; do it.
  relocate         Tell where a folder is now, so that its threads go on there.
  stats            Count tokens and turns by day, model, project, …
  du               Show where the bytes are, and what could be saved.
  unlock           Show who holds a thread; free what killed programs left.
  compress         Compress threads that nobody touched for days.
  materialize      Unpack compressed threads.
  inspect          Print all that is known about recorded threads, as JSON.
  check            Look for damage in recorded threads; changes nothing.
  repair           Repair what a check found, with a backup; undo it.
  index            Bring the index of threads up to date.

Setup:
  demo             Watch a thread survive a kill: offline, in seconds.
  doctor           Check machine and configuration, and say what to do.
  config           Print the configuration, and where each value comes from.
  completion       Print a completion script for bash, zsh or fish.

Options of every command, before or after its name:
  -C, --cd DIR                 work in this folder
  -m, --model MODEL            the model to ask
  -s, --sandbox MODE           read-only | workspace-write | danger-full-access
  -a, --ask-for-approval WHEN  untrusted | on-request | never
  -c, --config KEY=VALUE       a setting of config.toml, as TOML (repeat it)
  -p, --profile NAME           a profile of config.toml
      --enable, --disable F    switch a feature: -c features.F=true|false
      --strict-config          unknown keys in config.toml are errors
      --codex-home DIR         where threads are kept (CODEX_HOME, ~/.codex)
      --clew-home DIR          clew's own notes (CLEW_HOME, ~/.clew)
      --debug                  show tracebacks
  -h, --help                   this text; `clew COMMAND --help` for one command
  -V, --version                the version

Examples:
  clew demo                                   see what this is about
  clew list --here                            threads of this folder
  clew exec "why does the build fail?"        one turn, the answer on stdout
  clew exec resume last "and now fix it"      go on where it stopped
  claude mcp add codex -- clew mcp            register the server in Claude Code\
""")
    assert max(map(len, text.splitlines())) <= 80
    assert main([]) == 0
    assert main(["-h"]) == 0


def test_the_help_of_exec(capsys: pytest.CaptureFixture[str]) -> None:
    assert _help(capsys, "exec") == snapshot("""\
Usage: clew exec [OPTIONS] [resume THREAD | fork THREAD] [PROMPT | -]

Run one turn, in a new thread or in one that goes on.

╭─ Arguments ──────────────────────────────────────────────────────────────────╮
│ WORDS  `resume THREAD` or `fork THREAD`, and the prompt.                     │
╰──────────────────────────────────────────────────────────────────────────────╯
╭─ Options ────────────────────────────────────────────────────────────────────╮
│ --json --experimental-json    One JSON event per line on standard output.    │
│ --last                        With resume: the newest thread of this folder. │
│ --all                         With --last: of any folder.                    │
│ --image -i STR...             Attach an image file (repeat it, or separate   │
│                               several with commas).                          │
│ --add-dir STR...              A further folder that may be written to with   │
│                               workspace-write (repeat it).                   │
│ --output-schema PATH          A file with the JSON schema that the final     │
│                               answer must follow.                            │
│ --output-last-message -o      Write the final answer to this file, too.      │
│   PATH                                                                       │
│ --skip-git-repo-check         Run outside of a git repository.               │
│ --trust                       Treat this folder as trusted, for this run.    │
│ --ephemeral                   Keep nothing on disk.                          │
│ --full-auto                   Commands may write in this folder: -s          │
│                               workspace-write.                               │
│ --dangerously-bypass-approva  No sandbox, no approvals. Only for machines    │
│   ls-and-sandbox --yolo       that are confined themselves.                  │
│ --ignore-user-config          Leave the config.toml files out.               │
│ --oss                         Use a local model provider.                    │
│ --local-provider STR          Which one (a provider of config.toml); implies │
│                               --oss.                                         │
│ --color CHOICE                Colours on standard error (auto: on a          │
│                               terminal). [choices: auto, always, never]      │
╰──────────────────────────────────────────────────────────────────────────────╯

PROMPT is the text, or `-` for standard input. Text that is piped in beside a
prompt is added to it. THREAD is an id, the beginning of one, a name, or last.

Approvals cannot be given here: what would need one is refused. Without a
terminal only the final answer goes to standard output; everything else goes to
standard error. Exit codes: 0 the turn completed, 1 it failed or was interrupted
(Ctrl-C), 2 wrong usage.

Accepted for programs that pass them, without an effect here: --thread-source,
--cyber-access-program, --approve-for-me, --ignore-rules.

Examples:
  clew exec "why does the build fail?"
      a new thread in this folder
  git diff | clew exec 'review this'
      standard input goes along with the prompt
  clew exec resume last 'and now fix it'
      go on with the newest thread (ID, name or last)
  clew exec resume --last 'and now fix it'
      go on with the newest thread of this folder
  clew exec fork 0199a213 'try it the other way'
      go on in a copy
  clew exec --json -s workspace-write - < prompt.txt
      events as JSON lines

Options of every command (-C -m -s -a -c -p …): `clew --help`.\
""")


def test_the_help_of_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert _help(capsys, "list") == snapshot("""\
Usage: clew list [OPTIONS]

List threads, newest first.

╭─ Options ────────────────────────────────────────────────────────────────────╮
│ --all              Archived threads, too.                                    │
│ --archived         Archived threads only.                                    │
│ --cwd PATH         Only threads of this folder and the folders below it.     │
│ --here             Only threads of the current folder and the folders below  │
│                    it.                                                       │
│ --title STR        Only threads whose name, or beginning where they have     │
│                    none, holds this.                                         │
│ --since STR        Only threads that changed since then: 30min, 12h, 7d, 2w, │
│                    or a date.                                                │
│ --until STR        Only threads that did not change after that.              │
│ --source STR...    Only threads started by this: mcp, exec, cli, … (repeat   │
│                    it).                                                      │
│ --provider STR...  Only threads of this model provider (repeat it).          │
│ --branch STR       Only threads that began on this git branch.               │
│ --repository STR   Only threads that began in a checkout of this git         │
│                    repository (its URL).                                     │
│ --parent STR       Only threads that this one spawned.                       │
│ --ancestor STR     Only threads that this one spawned, at any depth.         │
│ --pinned           Only pinned threads.                                      │
│ --tag STR...       Only threads with this tag (repeat it: with all of them). │
│ --search STR       Only threads in which this was said, or that are called   │
│                    so.                                                       │
│ --sort CHOICE      By last change (updated), last turn (recency), beginning  │
│                    (created), name, or size; newest and largest first.       │
│                    [choices: updated, recency, created, name, size]          │
│ --reverse          The other way round.                                      │
│ --limit INT        How many at most (25); 0 for all of them.                 │
│ --cursor STR       Where the page before ended.                              │
│ --json             As JSON.                                                  │
╰──────────────────────────────────────────────────────────────────────────────╯

Examples:
  clew list --here
      threads that worked in this folder or below it
  clew list --search parser --since 7d
      what was said about the parser this week
  clew list --sort size --all
      the largest first
  clew list --ancestor parser
      what the thread parser had others do
  clew list --json --limit 0
      all of them, for programs
  clew list | cut -f1
      ids only: in a pipe, columns are separated by tabs

Options of every command (-C -m -s -a -c -p …): `clew --help`.\
""")


@pytest.mark.parametrize("name", [name for command in COMMANDS for name in (command.name, *command.aliases)])
def test_every_command_explains_itself_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = _help(capsys, name)
    assert text.startswith(f"Usage: clew {name}")
    assert "Examples:" in text
    assert "`clew --help`" in text


@pytest.mark.parametrize(
    "example", [line for command in COMMANDS for line, _ in command.examples if "clew " in line], ids=str
)
def test_every_example_can_be_written_like_that(example: str) -> None:
    # The part of the shell line that is ours: behind the last pipe or substitution before `clew`, up to the next.
    ours = example[example.index("clew ") :].split("|")[0].split(">")[0].split(" < ")[0].rstrip(") ")
    words = shlex.split(ours.removeprefix("clew "))
    options, rest = take_globals(words)
    call = parse(rest, options)
    assert call.func.__module__.startswith("clew.cli.")
    assert "\0" not in repr((call.args, call.keywords))


_SILENT = ("chat", "mcp", "completion")


@pytest.mark.parametrize("name", [command.name for command in COMMANDS if command.name not in _SILENT])
def test_every_command_that_prints_data_speaks_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--json" in _help(capsys, name)


def test_completion_knows_the_global_options() -> None:
    value = {"sandbox": "read-only", "approval": "never", "config": "a=b"}
    for field, (names, _, _) in _GLOBAL.items():
        for name in names:
            assert name in GLOBAL_HELP
            assert take_globals([name] if field in ("debug", "strict") else [name, value.get(field, "x")])[1] == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_know_commands_and_options(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("unarchive", "skip-git-repo-check", "codex-home", "workspace-write"):
        assert word in script
    if (program := shutil.which(shell)) is not None:
        subprocess.run([program, "-n"], input=script, text=True, check=True, timeout=20)


_COMPLETE = """
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
"$(complete -p clew | sed 's/.*-F \\([^ ]*\\).*/\\1/')" clew "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def test_bash_completes_commands_options_and_values(capsys: pytest.CaptureFixture[str]) -> None:
    if (bash := shutil.which("bash")) is None:
        pytest.skip("there is no bash")
    main(["completion", "bash"])
    script = capsys.readouterr().out + _COMPLETE

    def completed(*words: str) -> list[str]:
        done = subprocess.run([bash, "-s", "--", *words], input=script, capture_output=True, text=True, timeout=20)
        return sorted(done.stdout.split())

    assert completed("clew", "una") == ["unarchive"]
    assert completed("clew", "list", "--se") == ["--search"]
    assert completed("clew", "exec", "-s", "w") == ["workspace-write"]
    assert completed("clew", "-a", "") == ["never", "on-request", "untrusted"]
    assert completed("clew", "-m", "x", "--sa") == ["--sandbox"]
    assert completed("clew", "completion", "") == ["bash", "fish", "zsh"]
    assert completed("clew", "exec", "re") == ["resume"]
