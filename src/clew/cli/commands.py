"""All commands in one table: name, where it lives, one line about it, examples; and the first help made of it.

Imported by every `clew --help`: the standard library only, and little of it.
"""

from __future__ import annotations

from typing import NamedTuple

from clew.cli.options import GLOBAL_HELP, UsageError, did_you_mean

__all__ = ["COMMANDS", "GROUPS", "Command", "find_command", "overview"]


class Command(NamedTuple):
    """One command: `target` is `module:function`, `examples` are (command line, what it does). `alone`: it does one
    thing after the other, and needs no event loop."""

    name: str
    target: str
    group: str
    summary: str
    examples: tuple[tuple[str, str], ...]
    more: str = ""
    usage: str | None = None
    aliases: tuple[str, ...] = ()
    alone: bool = False


GROUPS = _WORK, _SERVE, _KEEP, _SETUP = "Threads", "Servers", "Keeping threads", "Setup"

_TURNS = """\
A turn is named by its number (1 is the first, -1 the last), by its id, or by the
beginning of its id (6 characters or more). `clew show` tells both."""

COMMANDS = (
    Command(
        "list",
        "clew.cli.listing:list_threads",
        _WORK,
        "List threads, newest first.",
        (
            ("clew list --here", "threads that worked in this folder or below it"),
            ("clew list --search parser --since 7d", "what was said about the parser this week"),
            ("clew list --sort size --all", "the largest first"),
            ("clew list --ancestor parser", "what the thread parser had others do"),
            ("clew list --json --limit 0", "all of them, for programs"),
            ("clew list | cut -f1", "ids only: in a pipe, columns are separated by tabs"),
        ),
        aliases=("ls",),
        alone=True,
    ),
    Command(
        "search",
        "clew.cli.searching:search",
        _WORK,
        "Find threads by words, best first.",
        (
            ("clew search parser fix*", "all words in one message, command, path or title"),
            ("clew search '\"off by one\"' --here --since 7d", "a phrase, in this folder, this week"),
            ("clew search parser --role command", "only in commands"),
            ("clew search parser --in last", "every place in the newest thread"),
        ),
        usage="clew search WORDS... [OPTIONS]",
    ),
    Command(
        "grep",
        "clew.cli.searching:grep",
        _WORK,
        "Find threads by a regular expression or an exact text.",
        (
            ("clew grep 'E[0-9]{4}:' --role output", "in what tools answered"),
            ("clew grep -F 'foo(bar)'", "this text, exactly"),
            ("clew grep TODO --case-sensitive -l", "ids only"),
            ("clew grep --in parser -- --force", "behind -- a pattern may begin with a dash"),
        ),
        usage="clew grep [OPTIONS] PATTERN",
        more="""\
Looks into the texts as people see them, tool output among them, not into the
JSON of the files. Exit codes, as grep has them: 0 something was found, 1
nothing was, 2 wrong usage.""",
    ),
    Command(
        "show",
        "clew.cli.showing:show",
        _WORK,
        "Show what happened in a thread.",
        (
            ("clew show last", "the newest thread"),
            ("clew show 0199a213 --turns 3", "its last three turns; 8 characters of the id are enough"),
            ("clew show parser --json", "by name, for programs"),
            ("clew show last --raw | jq .type", "the records of its log as they are"),
        ),
    ),
    Command(
        "chat",
        "clew.cli.resuming:chat",
        _WORK,
        "Talk to the agent in the terminal, in a new thread.",
        (
            ("clew chat", "a new thread in this folder"),
            ("clew chat 'why does the build fail?'", "with the first message"),
            ("clew chat -C ~/parser -s workspace-write", "in another folder, where commands may write"),
        ),
        more="""\
Line by line: Enter sends, Alt-Enter begins a new line, what is pasted stays
together. Ctrl-C stops the turn; Ctrl-C twice or Ctrl-D leaves. `/help` lists
what else there is: /save /name /fork /compact /status /diff /quit. Without a
terminal, every line of standard input is a message.""",
    ),
    Command(
        "resume",
        "clew.cli.resuming:resume",
        _WORK,
        "Go on with a thread in the terminal; choose it from a list.",
        (
            ("clew resume", "choose from the threads of this folder"),
            ("clew resume parser", "by name (or ID, the beginning of one, or last)"),
            ("clew resume --last 'and now fix it'", "the newest of this folder, with a message"),
            ("clew resume --fork parser", "in a copy; the thread stays as it is"),
            ("printf 'hi\\n/quit\\n' | clew resume last", "messages from a pipe, a line each"),
        ),
        usage="clew resume [OPTIONS] [THREAD] [MESSAGE]",
        more="""\
The thread keeps its recorded model, folder, sandbox and approval policy unless
an option names another one. Without a terminal the list to choose from is
numbered, and a number is read. The conversation is that of `clew chat`.""",
    ),
    Command(
        "exec",
        "clew.cli.execution:execute",
        _WORK,
        "Run one turn, in a new thread or in one that goes on.",
        (
            ('clew exec "why does the build fail?"', "a new thread in this folder"),
            ("git diff | clew exec 'review this'", "standard input goes along with the prompt"),
            ("clew exec resume last 'and now fix it'", "go on with the newest thread (ID, name or last)"),
            ("clew exec resume --last 'and now fix it'", "go on with the newest thread of this folder"),
            ("clew exec fork 0199a213 'try it the other way'", "go on in a copy"),
            ("clew exec --json -s workspace-write - < prompt.txt", "events as JSON lines"),
        ),
        usage="clew exec [OPTIONS] [resume THREAD | fork THREAD] [PROMPT | -]",
        more="""\
PROMPT is the text, or `-` for standard input. Text that is piped in beside a
prompt is added to it. THREAD is an id, the beginning of one, a name, or last.

Approvals cannot be given here: what would need one is refused. Without a
terminal only the final answer goes to standard output; everything else goes to
standard error. Exit codes: 0 the turn completed, 1 it failed or was interrupted
(Ctrl-C), 2 wrong usage.

Accepted for programs that pass them, without an effect here: --thread-source,
--cyber-access-program, --approve-for-me, --ignore-rules.""",
        aliases=("e",),
    ),
    Command(
        "tree",
        "clew.cli.branching:tree",
        _WORK,
        "Show which threads were forked or spawned from which.",
        (
            ("clew tree parser", "the family of this thread"),
            ("clew tree", "all families, the newest changes first"),
            ("clew tree --json --limit 0", "all of them, for programs"),
        ),
    ),
    Command(
        "diff",
        "clew.cli.branching:diff",
        _WORK,
        "Show where two threads part, and what each did then.",
        (
            ("clew diff retry", "a fork and the thread it was forked from"),
            ("clew diff 0199a213 retry --json", "two threads, for programs"),
        ),
        more="""\
Forks and copies are recognised by their turns, also where both come from a third
thread. Exit codes: 0 the same turns, 1 they differ, 2 trouble.""",
    ),
    Command(
        "fork",
        "clew.cli.keeping:fork",
        _KEEP,
        "Copy a thread, whole or up to a turn; prints the new id.",
        (
            ("clew fork last", "a second thread with the same history"),
            ("clew fork parser --at 3", "the history up to and including the third turn"),
            ("clew fork parser --before -1 --name retry", "all but the last turn"),
            ("clew fork 0199a213 --copy", "a file of its own, which Codex 0.142 reads too"),
        ),
        more=_TURNS,
    ),
    Command(
        "revert",
        "clew.cli.keeping:revert",
        _KEEP,
        "Take a thread back to where a turn began.",
        (
            ("clew revert parser --before -1", "its last turn; what is taken back stays on disk"),
            ("clew revert parser --undo", "have it back"),
        ),
        more=_TURNS,
    ),
    Command(
        "rename",
        "clew.cli.keeping:rename",
        _KEEP,
        "Give a thread a name, or take it away.",
        (
            ("clew rename last parser", "then `clew show parser` finds it"),
            ("clew rename parser --clear", "no name any more"),
        ),
    ),
    Command(
        "save",
        "clew.cli.marking:save",
        _KEEP,
        "Save a thread under a name; the newest save of a name counts.",
        (
            ("clew save parser", "the newest thread; then `clew show parser` finds it"),
            ("clew save baseline 0199a213", "a thread may have several such names"),
            ("clew save baseline --remove", "the name leads nowhere any more"),
        ),
        more="""\
Codex finds a thread by the newest of its names (`codex resume parser`).""",
        alone=True,
    ),
    Command(
        "tag",
        "clew.cli.marking:tag",
        _KEEP,
        "Put tags on a thread, or print them.",
        (
            ("clew tag last parser urgent", "then `clew list --tag parser` shows it"),
            ("clew tag last urgent --remove", "not urgent any more"),
        ),
        alone=True,
    ),
    Command(
        "pin",
        "clew.cli.marking:pin",
        _KEEP,
        "Pin threads: they are never deleted or put away by rule.",
        (("clew pin parser", "then `clew list --pinned` shows it"),),
        alone=True,
    ),
    Command(
        "unpin",
        "clew.cli.marking:unpin",
        _KEEP,
        "Take the pin off again.",
        (("clew unpin parser", "it may be deleted"),),
        alone=True,
    ),
    Command(
        "note",
        "clew.cli.marking:note",
        _KEEP,
        "Put a note on a thread, or print it.",
        (
            ("clew note last 'works, but slow on macOS'", "in the place of the one before"),
            ("clew note last", "print it"),
            ("clew note last --clear", "take it away"),
        ),
        alone=True,
    ),
    Command(
        "archive",
        "clew.cli.keeping:archive",
        _KEEP,
        "Put threads away, with those they spawned; they stay on disk.",
        (
            ("clew archive 0199a213 0199a214", "both vanish from `clew list`"),
            ("clew archive parser --only", "its sub-agents stay in the list"),
        ),
    ),
    Command(
        "unarchive",
        "clew.cli.keeping:unarchive",
        _KEEP,
        "Take archived threads out again.",
        (("clew unarchive 0199a213", "it is listed and can go on"),),
    ),
    Command(
        "delete",
        "clew.cli.deleting:delete",
        _KEEP,
        "Delete threads, with those they spawned; they can come back.",
        (
            ("clew delete 0199a213", "into the trash"),
            ("clew delete parser --with-forks", "its forks, too, which read its lines"),
        ),
        more="""\
All of them or none. A pinned thread is kept, and so is one that others were
forked from and that they read.""",
    ),
    Command(
        "trash",
        "clew.cli.deleting:trash",
        _KEEP,
        "Show what was deleted, put it back, or remove it for good.",
        (
            ("clew trash", "what there is"),
            ("clew trash restore last", "undo the newest `clew delete`"),
            ("clew trash empty --older-than 30d", "remove for good what a month did not need"),
        ),
        usage="clew trash [list | restore WHAT... | empty [WHAT...]] [OPTIONS]",
    ),
    Command(
        "retention",
        "clew.cli.retention:retention",
        _KEEP,
        "Show what the retention rules of config.toml would do; do it.",
        (
            ("clew retention", "what would be done, and what is kept and why"),
            ("clew retention --apply", "do it; what is deleted lies in the trash"),
        ),
        more="""\
Without rules nothing is ever done. Exit codes: 0 done, 1 one of the threads could
not be, 2 wrong usage.""",
    ),
    Command(
        "relocate",
        "clew.cli.relocating:relocate",
        _KEEP,
        "Tell where a folder is now, so that its threads go on there.",
        (
            ("clew relocate ~/lexer ~/parser", "it was renamed; no log is changed"),
            ("clew relocate --find", "folders that are gone, and where they may be"),
            ("clew relocate --find --search ~/src --apply", "look there, and tell what leaves no doubt"),
            ("clew relocate --undo ~/lexer", "take it back"),
        ),
        usage="clew relocate OLD NEW [OPTIONS] | --find [OPTIONS] | --list | --undo OLD",
        more="""\
A move counts while NEW is there and OLD is not. Threads are listed under the new
folder, and go on in it with the rights they had: each writable folder becomes the
same one in its new place, and the answer says so.""",
    ),
    Command(
        "stats",
        "clew.cli.stats:stats",
        _KEEP,
        "Count tokens and turns by day, model, project, …",
        (
            ("clew stats", "day by day"),
            ("clew stats --by model --since 30d", "which models the last month went to"),
            ("clew stats --by thread --here --limit 5", "the five dearest threads of this folder"),
            ("clew stats --by project --json", "for programs"),
        ),
        more="""\
Each turn counts once, also where forks and sub-agents copied it, and also when
it was taken back. Tokens are those the log tells of; the oldest threads tell
none. Cost is shown for models whose price stands in config.toml:
[stats.prices.MODEL] with input, cached and output, per million tokens.""",
    ),
    Command(
        "du",
        "clew.cli.space:du",
        _KEEP,
        "Show where the bytes are, and what could be saved.",
        (
            ("clew du", "the whole home: by cause, by place, the biggest threads"),
            ("clew du last", "the newest thread: its files, and what is in them"),
            ("clew du --json", "for programs"),
        ),
        more="""\
Causes are counted in text, as it is when unpacked: images, tool output, copies of
histories that compactions and forks made. Sizes of files are their lengths; on
the disk they take whole blocks. Nothing is changed.""",
    ),
    Command(
        "unlock",
        "clew.cli.unlocking:unlock",
        _KEEP,
        "Show who holds a thread; free what killed programs left.",
        (
            ("clew unlock last", "who holds it, and what to do"),
            ("clew unlock --all", "remove all locks that nobody holds any more"),
            ("clew unlock parser --force", "ask a clew to let go after its turn, and wait"),
        ),
        more="""\
A lock that a living program holds is never taken away. Exit codes: 0 the threads
are free, 1 one of them is held, 2 wrong usage.""",
    ),
    Command(
        "compress",
        "clew.cli.compressing:compress",
        _KEEP,
        "Compress threads that nobody touched for days.",
        (
            ("clew compress --all", "all that did not change for 7 days"),
            ("clew compress --all --older-than 30d --dry-run", "what a month would give"),
            ("clew compress --all --archived-only --rate 20", "gently: 20 MB per second"),
            ("clew compress 0199a213", "this one, whatever its age"),
        ),
        more="""\
Nothing is lost: clew reads compressed threads as they are, and so does Codex;
who goes on with one unpacks it. A thread that a program writes is passed over.
Ctrl-C ends it cleanly; the next run goes on where it stopped.""",
    ),
    Command(
        "materialize",
        "clew.cli.compressing:materialize",
        _KEEP,
        "Unpack compressed threads.",
        (
            ("clew materialize --all", "for programs that read plain files only"),
            ("clew materialize 0199a213", "one of them"),
        ),
    ),
    Command(
        "inspect",
        "clew.cli.inspection:inspect",
        _KEEP,
        "Print all that is known about recorded threads, as JSON.",
        (("clew inspect --all --jsonl", "one line per thread"),),
    ),
    Command(
        "check",
        "clew.cli.checking:check",
        _KEEP,
        "Look for damage in recorded threads; changes nothing.",
        (
            ("clew check", "the whole home"),
            ("clew check parser --json", "one thread, for programs"),
            ("clew check --quick", "beginnings and last lines only"),
        ),
        more="""\
Exit codes: 0 nothing but notes, 1 errors or warnings were found, 2 wrong
usage.""",
    ),
    Command(
        "repair",
        "clew.cli.repairing:repair",
        _KEEP,
        "Repair what a check found, with a backup; undo it.",
        (
            ("clew repair --list", "the repairs, and the backups there are"),
            ("clew repair drop-torn-tail --dry-run", "what would be done, in all threads"),
            ("clew repair renumber parser", "one thread"),
            ("clew repair undo 20260701T120000.123Z", "put the originals back"),
        ),
        usage="clew repair NAME [THREAD...] [OPTIONS] | undo STAMP | --list",
    ),
    Command(
        "index",
        "clew.cli.indexing:index",
        _KEEP,
        "Bring the index of threads up to date.",
        (
            ("clew index", "now, and not only beside other work"),
            ("clew index --status --json", "how it stands, for programs"),
            ("clew index --rebuild", "make it anew"),
        ),
        more="""\
Lists and searches are quick through the index and complete without it: it is
made from the threads' files and may be deleted at any time.""",
    ),
    Command(
        "mcp",
        "clew.cli.serving:mcp",
        _SERVE,
        "Serve the tools `codex` and `codex-reply` to MCP clients.",
        (
            ("claude mcp add codex -- clew mcp", "register it in Claude Code"),
            ("clew mcp -m gpt-6.1-sol -s workspace-write", "defaults for threads that name nothing else"),
        ),
        more="""\
`clew mcp-server` is the same: what `codex mcp-server` was registered with works
here, also flags before the word. Threads survive the server: `codex-reply`
finds them on disk.""",
        aliases=("mcp-server",),
    ),
    Command(
        "demo",
        "clew.cli.demo:demo",
        _SETUP,
        "Watch a thread survive a kill: offline, in seconds.",
        (
            ("clew demo", "nothing is installed, asked or kept"),
            ("clew demo --keep", "keep the folder to look at the files"),
        ),
    ),
    Command(
        "doctor",
        "clew.cli.doctor:doctor",
        _SETUP,
        "Check machine and configuration, and say what to do.",
        (("clew doctor", "what works, what does not, and what to do about it"),),
    ),
    Command(
        "config",
        "clew.cli.config:config",
        _SETUP,
        "Print the configuration, and where each value comes from.",
        (("clew config -m gpt-6.1-sol", "as a command with this flag would see it"),),
    ),
    Command(
        "completion",
        "clew.cli.completion:completion",
        _SETUP,
        "Print a completion script for bash, zsh or fish.",
        (
            ("source <(clew completion bash)", "in ~/.bashrc"),
            ('clew completion zsh > "${fpath[1]}/_clew"', "once"),
            ("clew completion fish > ~/.config/fish/completions/clew.fish", "once"),
        ),
    ),
)

_TOP = """\
Examples:
  clew demo                                   see what this is about
  clew list --here                            threads of this folder
  clew exec "why does the build fail?"        one turn, the answer on stdout
  clew exec resume last "and now fix it"      go on where it stopped
  claude mcp add codex -- clew mcp            register the server in Claude Code"""


def find_command(word: str) -> Command:
    """The command of this name. Raises `UsageError` with the nearest one."""
    for command in COMMANDS:
        if word == command.name or word in command.aliases:
            return command
    if word.startswith("-"):
        raise UsageError(f"there is no option {word} in front of a command", "`clew --help` lists them.")
    names = [name for command in COMMANDS for name in (command.name, *command.aliases)]
    raise UsageError(f"there is no command {word!r}", did_you_mean(word, names) or "`clew --help` lists the commands.")


def overview(*, colour: bool) -> str:
    """What `clew --help` prints."""

    def title(text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if colour else text

    width = max(len(_shown(command)) for command in COMMANDS)
    parts = [f"{title('Usage:')} clew COMMAND [OPTIONS]\n\nNever lose the thread of a coding agent."]
    for group in GROUPS:
        rows = [f"  {_shown(command):<{width}}  {command.summary}" for command in COMMANDS if command.group == group]
        parts.append("\n".join([title(f"{group}:"), *rows]))
    for text in (GLOBAL_HELP, _TOP):
        head, _, rest = text.partition("\n")
        parts.append(f"{title(head)}\n{rest}")
    return "\n\n".join(parts) + "\n"


def _shown(command: Command) -> str:
    return ", ".join((command.name, *command.aliases))
