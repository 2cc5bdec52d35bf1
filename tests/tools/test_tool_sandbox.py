"""The sandbox, tried for real: on whatever this machine has."""

from __future__ import annotations

import os
import socket
import struct
import sys
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from tool_bench import Bench, plain

from clew.agent.sandbox import Confinement, Mechanism, Roots, launch, writable_roots
from clew.agent.sandbox.confinement import seatbelt_profile
from clew.errors import SandboxUnavailable
from clew.events import Decision
from clew.settings import ApprovalPolicy, Sandbox, SandboxMode

pytestmark = pytest.mark.anyio

WORKSPACE = Sandbox(mode=SandboxMode.WORKSPACE_WRITE)


async def succeeds(bench: Bench, command: str) -> bool:
    output = plain((await bench.run(command)).output)
    assert "Process exited with code" in output
    assert "clew sandbox:" not in output
    return "Process exited with code 0" in output


async def test_writes_work_inside_and_are_refused_outside(confined: Bench, tmp_path: Path) -> None:
    (confined.project / "old.txt").write_text("old\n")
    outside = tmp_path / "outside.txt"
    outside.write_text("keep\n")
    assert await succeeds(
        confined, "echo new > new.txt && echo more >> old.txt && mkdir d && mv new.txt d/ && rm old.txt"
    )
    assert (confined.project / "d/new.txt").read_text() == "new\n"
    for command in (
        f"echo x > {outside}",
        f"echo x >> {outside}",
        f"rm {outside}",
        f"mv {outside} .",
        f"mv d {tmp_path}/",
        f"ln -s x {tmp_path}/link",
        f"truncate -s 0 {outside}",
        f"mkdir {tmp_path}/folder",
        "touch /etc/clew-was-here",
        "touch ~/clew-was-here",
    ):
        assert not await succeeds(confined, command), command
    assert outside.read_text() == "keep\n"
    assert await succeeds(confined, f"cat {outside} > copy && echo gone > /dev/null")


async def test_read_only_lets_nothing_be_written(confined: Bench) -> None:
    confined.mode = SandboxMode.READ_ONLY
    (confined.project / "a.txt").write_text("a\n")
    assert await succeeds(confined, "cat a.txt > /dev/null")
    assert not await succeeds(confined, "echo b > a.txt")
    assert not await succeeds(confined, "touch b.txt")
    assert not await succeeds(confined, "touch /tmp/clew-was-here")
    assert (confined.project / "a.txt").read_text() == "a\n"


async def test_named_roots_and_temporary_folders_are_writable(confined: Bench, tmp_path: Path) -> None:
    extra, temporary = tmp_path / "extra", tmp_path / "temporary"
    extra.mkdir()
    temporary.mkdir()
    confined.box._environment["TMPDIR"] = str(temporary)  # pyright: ignore[reportPrivateUsage] - a machine that has one
    confined.sandbox = {"writable_roots": (str(extra),), "exclude_slash_tmp": True}
    assert await succeeds(confined, f"touch {extra}/a {temporary}/b")
    confined.sandbox |= {"exclude_tmpdir_env_var": True}
    assert not await succeeds(confined, f"touch {temporary}/c")
    assert not await succeeds(confined, f"touch {tmp_path}/d")


async def test_protected_folders_stay_read_only_inside_the_project(confined: Bench) -> None:
    assert confined.confinement is not None
    if not confined.confinement.mounts and confined.confinement.mechanism is Mechanism.LANDLOCK:
        pytest.skip(confined.confinement.reason)
    for name in (".git", ".codex", ".agents", ".aws"):
        (confined.project / name).mkdir()
        (confined.project / name / "config").write_text("keep\n")
    for name in (".git", ".codex", ".agents", ".aws"):
        assert not await succeeds(confined, f"echo x > {name}/config")
        assert not await succeeds(confined, f"touch {name}/new")
        assert not await succeeds(confined, f"mv {name} other")
        assert (confined.project / name / "config").read_text() == "keep\n"
    assert not await succeeds(confined, "umount .git && touch .git/x")
    assert not await succeeds(confined, "mount -o remount,bind,rw .git && touch .git/x")
    assert not await succeeds(confined, "unshare -Urm sh -c 'umount .git && touch .git/x'")
    assert await succeeds(confined, "cat .git/config > /dev/null && touch fine")


async def test_a_project_in_a_writable_folder_cannot_be_moved_away_from_its_protection(
    confined: Bench, tmp_path: Path
) -> None:
    assert confined.confinement is not None
    if not confined.confinement.mounts:
        pytest.skip(confined.confinement.reason)
    confined.sandbox |= {"writable_roots": (str(tmp_path),)}
    (confined.project / ".git").mkdir()
    assert not await succeeds(confined, f"cd / && mv {confined.project} {tmp_path}/moved")
    assert await succeeds(confined, f"touch {tmp_path}/beside")
    assert not await succeeds(confined, "touch .git/x")


async def test_the_network_is_off_unless_the_policy_allows_it(confined: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connect = f"{sys.executable} -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}), 2)'"
        assert not await succeeds(confined, connect)
        confined.sandbox |= {"network_access": True}
        assert await succeeds(confined, connect)
        confined.mode = SandboxMode.READ_ONLY
        assert not await succeeds(confined, connect)


async def test_local_sockets_are_out_of_reach_without_the_network(
    confined: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon behind a socket (Docker, D-Bus) would do unconfined what it is asked to."""
    listener = socket.socket(socket.AF_UNIX)
    with listener:
        monkeypatch.chdir(confined.project)  # the name of a socket must be short
        listener.bind("s")
        listener.listen()
        code = 'import socket; socket.socket(socket.AF_UNIX).connect("s")'
        assert not await succeeds(confined, f"{sys.executable} -c '{code}'")
    pair = 'import socket; a, b = socket.socketpair(); a.send(b"x"); assert b.recv(1) == b"x"'
    assert await succeeds(confined, f"{sys.executable} -c '{pair}'")


async def test_processes_outside_cannot_be_signalled(confined: Bench) -> None:
    assert not await succeeds(confined, f"kill -0 {os.getpid()}")
    assert await succeeds(confined, "sleep 5 & kill $!")


async def test_a_sandboxed_command_can_have_a_terminal(confined: Bench) -> None:
    output = plain((await confined.run("test -t 0 && test -t 1 && echo terminal >/dev/tty", tty=True)).output)
    assert output.endswith("Process exited with code 0\nOriginal token count: 3\nOutput:\nterminal\r\n")


async def test_a_closed_pipe_ends_a_sandboxed_command_quietly(confined: Bench) -> None:
    assert plain((await confined.run("yes | head -n 1")).output).endswith("Output:\ny\n")


async def test_an_approved_escalation_runs_unconfined_and_says_so(confined: Bench, tmp_path: Path) -> None:
    confined.approval = ApprovalPolicy.ON_REQUEST
    confined.person.answers = [Decision.ONCE]
    target = tmp_path / "outside"
    assert not await succeeds(confined, f"touch {target}")
    more = {"sandbox_permissions": "require_escalated", "justification": "May I?"}
    outcome = await confined.run(f"touch {target}; echo ${{CODEX_SANDBOX:-free}}", **more)
    assert plain(outcome.output).endswith("\nfree\n")
    assert target.exists()
    (asked,) = confined.person.asked
    assert (asked.command, asked.cwd, asked.escalated, asked.reason) == (
        ("/bin/bash", "-c", f"touch {target}; echo ${{CODEX_SANDBOX:-free}}"),
        str(confined.project),
        True,
        "May I?",
    )


async def test_a_yes_to_an_ordinary_command_does_not_lift_the_sandbox(confined: Bench, tmp_path: Path) -> None:
    confined.approval = ApprovalPolicy.UNTRUSTED
    confined.person.answers = [Decision.ONCE]
    assert not await succeeds(confined, f"touch {tmp_path}/outside")
    (asked,) = confined.person.asked
    assert asked.escalated is False


async def test_killing_a_sandboxed_command_leaves_nothing(confined: Bench) -> None:
    marker = confined.project / "pid"
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(confined.run, f"echo $$ > {marker}; sleep 60; true")
            with anyio.fail_after(4):
                while not (marker.exists() and marker.read_text()):  # noqa: ASYNC110 - another process sets no event
                    await anyio.sleep(0.01)
            scope.cancel()
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in commands if str(marker).encode() in line]


def test_without_any_mechanism_wrapping_is_refused_but_full_access_is_not(project: Path) -> None:
    nothing = Confinement(mechanism=Mechanism.NONE, reason="the kernel has nothing")
    for policy in (Sandbox(), WORKSPACE):
        with pytest.raises(SandboxUnavailable, match="the kernel has nothing"):
            nothing.wrap(["true"], cwd=str(project), policy=policy, environment={})
    full = Sandbox(mode=SandboxMode.FULL_ACCESS)
    assert nothing.wrap(["true"], cwd=str(project), policy=full, environment={}) == ["true"]


async def test_the_launcher_never_runs_a_command_it_could_not_confine(project: Path) -> None:
    launcher = str(Path(launch.__file__))
    for options in (["--landlock", "--write", str(project / "missing")], ["--frobnicate"], ["--write"], []):
        done = await anyio.run_process(
            [sys.executable, "-I", "-S", launcher, *options, "--", "echo", "ran"], check=False
        )
        assert (done.returncode, done.stdout) == (0, b"ran\n") if not options else (126, b"")


def test_bubblewrap_binds_roots_and_protects_within(project: Path) -> None:
    (project / ".git").mkdir()
    found = Confinement(mechanism=Mechanism.BUBBLEWRAP, reason="", program="/usr/bin/bwrap", mounts=True)
    policy = Sandbox(mode=SandboxMode.WORKSPACE_WRITE, exclude_slash_tmp=True)
    argv = found.wrap(["echo", "x"], cwd=str(project), policy=policy, environment={})
    tail = [sys.executable, "-I", "-S", str(Path(launch.__file__)), "--filter", "--no-network", "--", "echo", "x"]
    assert argv == [
        *("/usr/bin/bwrap", "--die-with-parent", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/"),
        *("--dev", "/dev", "--proc", "/proc", "--unshare-net"),
        *("--bind", str(project), str(project)),
        *("--ro-bind", f"{project}/.git", f"{project}/.git"),
        *("--chdir", str(project), "--", *tail),
    ]
    open_net = Sandbox(mode=SandboxMode.WORKSPACE_WRITE, exclude_slash_tmp=True, network_access=True)
    assert "--unshare-net" not in found.wrap(["x"], cwd=str(project), policy=open_net, environment={})
    assert (
        replace(found, mounts=False).wrap(["x"], cwd=str(project), policy=policy, environment={}).count("--proc") == 0
    )


def test_the_profile_for_macos_closes_what_is_protected_after_opening_the_roots() -> None:
    roots = Roots((Path('/w "x"'), Path("/w/.git/deep")), (Path("/w/.git"),))
    assert seatbelt_profile(roots, network=False).splitlines()[:7] == [
        "(version 1)",
        "(allow default)",
        "(deny file-write*)",
        '(allow file-write* (subpath "/w \\"x\\""))',
        '(allow file-write* (subpath "/w/.git/deep"))',
        '(deny file-write* (subpath "/w/.git"))',
        '(allow file-write* (subpath "/w/.git/deep"))',
    ]
    assert "(deny network*)" in seatbelt_profile(roots, network=False)
    assert "(deny network*)" not in seatbelt_profile(roots, network=True)


def test_the_deepest_entry_decides_what_may_be_written() -> None:
    roots = Roots((Path("/w"), Path("/w/.git/ok")), (Path("/w/.git"),))
    allowed = {
        "/w/a": True,
        "/w/.git": False,
        "/w/.git/x": False,
        "/w/.git/ok/x": True,
        "/wide": False,
        "/w/.gitx": True,
    }
    assert {path: roots.allow(Path(path)) for path in allowed} == allowed


def test_a_worktrees_real_git_folder_is_protected_too(tmp_path: Path) -> None:
    main, tree = tmp_path / "main", tmp_path / "tree"
    (main / ".git/worktrees/tree").mkdir(parents=True)
    tree.mkdir()
    (tree / ".git").write_text(f"gitdir: {main}/.git/worktrees/tree\n")
    policy = Sandbox(mode=SandboxMode.WORKSPACE_WRITE, writable_roots=(str(main),), exclude_slash_tmp=True)
    roots = writable_roots(policy, str(tree), {})
    assert roots.writable == (tree, main)
    assert main / ".git/worktrees/tree" in roots.protected


def judge(code: bytes, architecture: int, number: int, first: int = 0) -> bool:
    """Run a filter program over one system call; whether it is allowed."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, first, 0, 0, 0, 0, 0)
    program = [struct.unpack_from("HBBI", code, place) for place in range(0, len(code), 8)]
    place = accumulator = 0
    while True:
        operation, yes, no, value = program[place]
        place += 1
        if operation == 0x06:
            assert value in (0x7FFF_0000, 0x0005_0001)
            return value == 0x7FFF_0000
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        else:
            hit = accumulator == value if operation == 0x15 else accumulator >= value
            place += yes if hit else no


@pytest.mark.parametrize(("machine", "architecture"), [("x86_64", 0xC000003E), ("aarch64", 0xC00000B7)])
def test_the_call_filter_refuses_exactly_what_it_lists(machine: str, architecture: int) -> None:
    calls = launch.CALLS[machine]
    offline, online = (launch.call_filter(machine, network=network) for network in (False, True))
    others = set(range(462)) - set(calls.values())
    always = set(calls.values()) - {calls["socket"], calls["connect"], calls["io_uring_setup"]}
    for number in others:
        assert judge(offline, architecture, number)
        assert judge(online, architecture, number)
    for number in always:
        assert not judge(offline, architecture, number)
        assert not judge(online, architecture, number)
    for name in ("connect", "io_uring_setup"):
        assert not judge(offline, architecture, calls[name])
        assert judge(online, architecture, calls[name])
    for family in (socket.AF_UNIX, socket.AF_INET, 10, 16, 40):
        assert judge(offline, architecture, calls["socket"], family) is (family == socket.AF_UNIX)
        assert judge(online, architecture, calls["socket"], family)
    assert not judge(online, 0x4000_0003, 1)
    if machine == "x86_64":
        assert not judge(online, architecture, 0x4000_0001)
