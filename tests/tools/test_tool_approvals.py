"""Who decides that a command or patch may run."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_bench import Bench, Person, plain

from clew.agent.approvals import REJECTED_BY_USER, ApprovalRules, Ruling, Verdict, is_dangerous
from clew.agent.sandbox import Confinement, Mechanism
from clew.agent.shell_lines import Line, PatchCommand, actions, find_patch, read_line
from clew.errors import ClewError
from clew.events import ApprovalAsked, ApprovalRequest, Decision
from clew.settings import ApprovalPolicy, Sandbox, SandboxMode, Settings

pytestmark = pytest.mark.anyio

NOTHING = Confinement(mechanism=Mechanism.NONE, reason="nothing found")
SOMETHING = Confinement(mechanism=Mechanism.LANDLOCK, reason="fine")
UNTRUSTED, ON_REQUEST, NEVER = ApprovalPolicy.UNTRUSTED, ApprovalPolicy.ON_REQUEST, ApprovalPolicy.NEVER
READ_ONLY, WORKSPACE, FULL = SandboxMode.READ_ONLY, SandboxMode.WORKSPACE_WRITE, SandboxMode.FULL_ACCESS
SANDBOXED, UNSANDBOXED, ASK, REFUSE = Verdict


def settings(approval: ApprovalPolicy, mode: SandboxMode, cwd: str = "/w") -> Settings:
    return Settings(cwd=cwd, model="m", provider="p", approval=approval, sandbox=Sandbox(mode=mode))


def rule(
    command: str,
    approval: ApprovalPolicy,
    mode: SandboxMode,
    *,
    escalated: bool = False,
    confinement: Confinement = SOMETHING,
) -> Ruling:
    return ApprovalRules().command(
        ("/bin/bash", "-lc", command),
        thread_id="t",
        cwd="/w",
        settings=settings(approval, mode),
        confinement=confinement,
        escalated=escalated,
    )


@pytest.mark.parametrize(
    ("command", "escalated", "mode", "verdicts"),
    [
        ("ls", False, WORKSPACE, (ASK, SANDBOXED, SANDBOXED)),
        ("ls", False, READ_ONLY, (ASK, SANDBOXED, SANDBOXED)),
        ("ls", False, FULL, (ASK, UNSANDBOXED, UNSANDBOXED)),
        ("ls", True, WORKSPACE, (ASK, ASK, REFUSE)),
        ("ls", True, FULL, (ASK, UNSANDBOXED, REFUSE)),
        ("rm -rf x", False, WORKSPACE, (ASK, ASK, REFUSE)),
        ("rm -rf x", False, FULL, (ASK, ASK, REFUSE)),
    ],
)
def test_the_table_of_policies(
    command: str, escalated: bool, mode: SandboxMode, verdicts: tuple[Verdict, Verdict, Verdict]
) -> None:
    policies = (UNTRUSTED, ON_REQUEST, NEVER)
    assert tuple(rule(command, policy, mode, escalated=escalated).verdict for policy in policies) == verdicts


def test_without_a_sandbox_people_are_asked_and_nothing_runs_unconfined_in_silence() -> None:
    reason = "it would run without a sandbox: nothing found"
    for policy in (UNTRUSTED, ON_REQUEST):
        assert rule("ls", policy, WORKSPACE, confinement=NOTHING) == Ruling(ASK, reason, escalated=True)
    assert rule("ls", NEVER, WORKSPACE, confinement=NOTHING) == Ruling(
        REFUSE,
        'exec_command failed: CreateProcess { message: "Rejected(\\"no sandbox on this machine: nothing found\\")" }',
    )
    assert rule("ls", NEVER, FULL, confinement=NOTHING) == Ruling(UNSANDBOXED)


def test_refusals_tell_the_model_why() -> None:
    assert rule("ls", NEVER, WORKSPACE, escalated=True).text == (
        "approval policy is Never; reject command — "
        "you cannot ask for escalated permissions if the approval policy is Never"
    )
    assert rule("rm -f x", NEVER, WORKSPACE).text == (
        "exec_command failed: CreateProcess { message: \"Rejected(\\\"`/bin/bash -lc 'rm -f x'` rejected: "
        'rm -f style commands are not permitted. Use a safer approach\\")" }'
    )
    assert REJECTED_BY_USER == 'exec_command failed: CreateProcess { message: "Rejected(\\"rejected by user\\")" }'


@pytest.mark.parametrize(
    "command",
    [
        "rm -f x",
        "rm -rf /",
        "rm -r -f x",
        "rm x -f",
        "rm --force x",
        "rm --for x",
        "/bin/rm -fr x",
        r"\rm -f x",
        "'rm' -f x",
        "cd x && rm -rf y",
        "true; rm -f x",
        "echo | xargs rm -f",
        "xargs -n 1 rm -f",
        "sudo rm -f x",
        "sudo -u root -E A=b rm -f x",
        "env A=1 rm -f x",
        "env -u HOME -i rm -f x",
        "env -S 'rm -f x'",
        "A=1 rm -f x",
        "command rm -f x",
        "nohup nice -n 5 rm -f x",
        "timeout -k 1 5 rm -f x",
        "bash -lc 'rm -f x'",
        "bash -c \"sh -c 'rm -f x'\"",
        "eval 'rm -f x'",
        "find . -exec rm -f {} +",
        "echo $(rm -f x)",
        'echo "a $(rm -f x) b"',
        "echo `rm -f x`",
        "(rm -f x)",
        "{ rm -f x; }",
        "for f in *; do rm -f $f; done",
        "if true; then rm -f x; fi",
        "! rm -f x",
        "rm -f x &",
        "echo a\nrm -f x",
        "rm \\\n -f x",
        ">log rm -f x",
    ],
)
def test_forced_deletions_are_seen_in_any_dress(command: str) -> None:
    assert is_dangerous(("/bin/bash", "-lc", command))


@pytest.mark.parametrize(
    "command",
    [
        "rm x",
        "rm -r x",
        "rm -- -f",
        "echo rm -f x",
        "grep -rf rm x",
        "git rm --cached x",
        "echo 'rm -f x'",
        "ls # rm -f x",
        "find . -name rm -f",
        "env",
        "sudo",
        "bash",
    ],
)
def test_harmless_commands_are_not_taken_for_deletions(command: str) -> None:
    assert not is_dangerous(("/bin/bash", "-lc", command))


@given(st.text(st.sampled_from("rm -f'\"$()`;&|<>\\\n{}# xAo="), max_size=40))
def test_reading_a_line_never_fails(text: str) -> None:
    line = read_line(text)
    assert all(line.commands)
    is_dangerous(("sh", "-c", text))


@given(st.lists(st.lists(st.text("ab$*'\" \\#;&\u00e9", max_size=5), min_size=1, max_size=4), max_size=4))
def test_quoted_words_come_back_as_they_were(commands: list[list[str]]) -> None:
    assert read_line(" && ".join(shlex.join(words) for words in commands)) == Line(commands, plain=True)


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        (
            "ls -l && git status || true; wc -l | sort",
            [["ls", "-l"], ["git", "status"], ["true"], ["wc", "-l"], ["sort"]],
        ),
        ("a 'b c' \"d e\"f", [["a", "b c", "d ef"]]),
        ("echo a#b # c", [["echo", "a#b"]]),
        ("", []),
    ],
)
def test_plain_lines_are_split(text: str, commands: list[list[str]]) -> None:
    assert read_line(text) == Line(commands, plain=True)


@pytest.mark.parametrize(
    "text",
    [
        "a > b",
        "a < b",
        "a 2>&1",
        "a $B",
        "a $(b)",
        "a `b`",
        "a *",
        "a ?",
        "(a)",
        "A=1 b",
        "a &",
        "~/x",
        "a {b,c}",
        "'a",
        '"a',
    ],
)
def test_lines_with_hidden_effects_are_not_plain(text: str) -> None:
    assert not read_line(text).plain


def test_only_a_line_that_is_nothing_but_a_patch_is_taken_for_one() -> None:
    patch = "*** Begin Patch\n*** End Patch"
    assert find_patch(f"apply_patch <<'EOF'\n{patch}\nEOF\n") == PatchCommand(patch, None)
    assert find_patch(f"cd 'a b' && apply_patch <<\"X\"\n{patch}\nX") == PatchCommand(patch, "a b")
    assert find_patch(f"apply_patch '{patch}'") == PatchCommand(patch, None)
    for line in (
        f"apply_patch <<'EOF'\n{patch}\nEOF\nrm x",
        f"rm x; apply_patch <<'EOF'\n{patch}\nEOF",
        "apply_patch < file",
        "echo apply_patch",
    ):
        assert find_patch(line) is None


def test_what_a_command_is_about() -> None:
    assert actions("ls", "/w") == [{"type": "listFiles", "command": "ls", "path": None}]
    assert actions("cat a.txt", "/w") == [{"type": "read", "command": "cat a.txt", "name": "a.txt", "path": "/w/a.txt"}]
    assert actions("rg -n x src", "/w") == [{"type": "search", "command": "rg -n x src", "query": "x", "path": "src"}]
    for unknown in ("cat a b", "ls > x", "cat a && rm a"):
        assert actions(unknown, "/w") == [{"type": "unknown", "command": unknown}]


# --- questions


async def test_a_no_refuses_the_call_and_the_turn_goes_on(bench: Bench) -> None:
    bench.approval = UNTRUSTED
    outcome = await bench.run("touch made")
    assert (outcome.output, outcome.success, outcome.aborted) == (REJECTED_BY_USER, False, False)
    assert bench.items == [("started", "call-1", "inProgress"), ("completed", "call-1", "declined")]
    assert outcome.item is not None
    fields = outcome.item.fields
    assert (fields["processId"], fields["source"], fields["exitCode"], fields["durationMs"]) == (
        None,
        "agent",
        None,
        None,
    )
    request = ApprovalRequest(
        kind="command",
        thread_id="thread-1",
        turn_id="turn-1",
        call_id="call-1",
        cwd=str(bench.project),
        command=("/bin/bash", "-c", "touch made"),
    )
    assert bench.person.asked == [request]
    assert bench.events[1] == ApprovalAsked("turn-1", request)
    assert not (bench.project / "made").exists()


async def test_an_abort_ends_the_turn(bench: Bench) -> None:
    bench.approval = UNTRUSTED
    bench.person.answers = [Decision.ABORT]
    outcome = await bench.run("ls")
    assert (outcome.output, outcome.aborted) == ("Wall time: 0.1 seconds\naborted by user", True)
    assert bench.items[-1] == ("completed", "call-1", "declined")


async def test_an_answer_for_the_session_counts_for_that_command_in_that_place_only(bench: Bench) -> None:
    bench.approval = UNTRUSTED
    bench.person.answers = [Decision.SESSION]
    (bench.project / "sub").mkdir()
    asked: list[int] = []

    async def run(command: str, **more: str) -> None:
        outcome = await bench.run(command, **more)
        assert outcome.success, plain(outcome.output)
        asked.append(len(bench.person.asked))

    await run("true")
    await run("true")
    await run("true 1")
    await run("true", workdir="sub")
    bench.thread_id = "thread-2"
    await run("true")
    await run("true")
    bench.thread_id = "thread-1"
    await run("true")
    assert asked == [1, 1, 2, 3, 4, 4, 4]


def test_a_remembered_yes_is_not_widened() -> None:
    rules = ApprovalRules()
    argv = ("/bin/bash", "-lc", "make")
    narrow, escalated = _question(argv, escalated=False), _question(argv, escalated=True)

    def decide(mode: SandboxMode, *, escalated: bool, policy: ApprovalPolicy = UNTRUSTED) -> Verdict:
        ruling = rules.command(
            argv,
            thread_id="t",
            cwd="/w",
            settings=settings(policy, mode),
            confinement=SOMETHING,
            escalated=escalated,
        )
        return ruling.verdict

    _ask(rules, narrow, WORKSPACE)
    assert decide(WORKSPACE, escalated=False) is SANDBOXED
    assert decide(WORKSPACE, escalated=True) is ASK
    assert decide(READ_ONLY, escalated=False) is ASK
    _ask(rules, escalated, WORKSPACE)
    assert decide(WORKSPACE, escalated=True) is UNSANDBOXED
    assert decide(WORKSPACE, escalated=False) is SANDBOXED
    assert decide(READ_ONLY, escalated=True) is ASK
    assert decide(WORKSPACE, escalated=True, policy=NEVER) is REFUSE


def _question(argv: tuple[str, ...], *, escalated: bool) -> ApprovalRequest:
    return ApprovalRequest(
        kind="command", thread_id="t", turn_id="u", call_id="c", cwd="/w", command=argv, escalated=escalated
    )


def _ask(rules: ApprovalRules, request: ApprovalRequest, mode: SandboxMode) -> None:
    import anyio

    async def emit(_event: object) -> None: ...

    async def ask() -> Decision:
        person = Person([Decision.SESSION])
        return await rules.ask(request, settings=settings(UNTRUSTED, mode), approver=person, emit=emit)

    assert anyio.run(ask) is Decision.SESSION


async def test_an_approver_that_fails_has_said_no(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_request: ApprovalRequest) -> Decision:
        raise ClewError("the client went away")

    monkeypatch.setattr(bench.person, "decide", fail)
    bench.approval = UNTRUSTED
    assert (await bench.run("ls")).output == REJECTED_BY_USER
    patch = await bench.patch("*** Begin Patch\n*** Add File: a\n+1\n*** End Patch")
    assert patch.output == "patch rejected by user"


async def test_an_interruption_while_a_question_is_open_closes_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    import anyio

    async def wait(_request: ApprovalRequest) -> Decision:
        bench.stop.set()
        await anyio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(bench.person, "decide", wait)
    bench.approval = UNTRUSTED
    with anyio.fail_after(4):
        outcome = await bench.run("ls")
    assert (plain(outcome.output), outcome.aborted) == ("Wall time: T seconds\naborted by user", True)
    assert outcome.item is not None
    assert bench.items[-1] == ("completed", "call-1", "declined")


@pytest.mark.parametrize(
    ("mode", "path", "verdicts"),
    [
        (WORKSPACE, "a", (ASK, SANDBOXED, SANDBOXED)),
        (WORKSPACE, "../b", (ASK, ASK, REFUSE)),
        (WORKSPACE, ".git/b", (ASK, ASK, REFUSE)),
        (READ_ONLY, "a", (ASK, ASK, REFUSE)),
        (FULL, "../b", (ASK, SANDBOXED, SANDBOXED)),
    ],
)
def test_the_table_of_patches(
    project: Path, mode: SandboxMode, path: str, verdicts: tuple[Verdict, Verdict, Verdict]
) -> None:
    def decide(policy: ApprovalPolicy) -> Verdict:
        sandbox = Sandbox(mode=mode, exclude_slash_tmp=True)
        chosen = Settings(cwd=str(project), model="m", provider="p", approval=policy, sandbox=sandbox)
        target = (project / path).resolve()
        return ApprovalRules().patch([target], thread_id="t", settings=chosen, environment={}).verdict

    assert tuple(decide(policy) for policy in (UNTRUSTED, ON_REQUEST, NEVER)) == verdicts
