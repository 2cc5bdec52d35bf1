"""Patches: every recorded case, and the corners no recording has."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_bench import Bench, plain

from clew.agent.tools.patch import Chunk, Patch, UpdateFile, parse_patch, plan, unified_diff
from clew.errors import PatchInvalid
from clew.events import ApprovalRequest, Decision, ItemCompleted
from clew.settings import ApprovalPolicy, SandboxMode

pytestmark = pytest.mark.anyio

SUCCESS = "Exit code: 0\nWall time: T seconds\nOutput:\nSuccess. Updated the following files:\n"


def update(path: str, *chunk: str) -> str:
    return "\n".join(["*** Begin Patch", f"*** Update File: {path}", *chunk, "*** End Patch"])


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


async def test_recorded_cases_give_the_recorded_texts_and_files(shared: Path, bench: Bench, tmp_path: Path) -> None:
    cases = sorted((shared / "corpus/apply_patch").glob("*.json"))
    assert cases
    for place, path in enumerate(cases):
        case: dict[str, Any] = json.loads(path.read_text())
        bench.project = tmp_path / f"case-{place}" / "demo"
        bench.project.mkdir(parents=True)
        for name, text in case["files_before"].items():
            (bench.project / name).write_bytes(text.encode())
        outcome = await bench.patch(case["patch"])
        wanted = case["tool"]["output"].replace("/tmp/demo", str(bench.project))
        assert (path.stem, plain(outcome.output)) == (path.stem, wanted)
        assert (path.stem, files(bench.project)) == (path.stem, case["tool"]["files_after"])
        assert outcome.success is wanted.startswith("Exit code: 0")
        if path.stem == "parent-path":
            assert (bench.project.parent / "escape.txt").read_text() == "x\n"


async def test_a_patch_is_an_item_in_both_spellings(bench: Bench) -> None:
    (bench.project / "a.txt").write_text("1\n2\n3\n4\n5\n")
    (bench.project / "old.txt").write_text("gone\n")
    outcome = await bench.patch(
        "*** Begin Patch\n*** Update File: a.txt\n*** Move to: b.txt\n@@\n-3\n+three\n"
        "*** Delete File: old.txt\n*** Add File: new.txt\n+fresh\n*** End Patch"
    )
    assert plain(outcome.output) == f"{SUCCESS}A new.txt\nM b.txt\nD old.txt\n"
    here = bench.project
    diff = "@@ -2,3 +2,3 @@\n 2\n-3\n+three\n 4\n"
    assert outcome.finished is not None
    assert outcome.finished.recorded == {
        "type": "FileChange",
        "id": "call-1",
        "changes": {
            f"{here}/a.txt": {"type": "update", "unified_diff": diff, "move_path": f"{here}/b.txt"},
            f"{here}/old.txt": {"type": "delete", "content": "gone\n"},
            f"{here}/new.txt": {"type": "add", "content": "fresh\n"},
        },
        "status": "completed",
        "stdout": "Success. Updated the following files:\nA new.txt\nM b.txt\nD old.txt\n",
        "stderr": "",
    }
    assert outcome.item is not None
    assert outcome.item.to_json() == {
        "type": "fileChange",
        "id": "call-1",
        "changes": [
            {"path": f"{here}/a.txt", "kind": {"type": "update", "move_path": f"{here}/b.txt"}, "diff": diff},
            {"path": f"{here}/old.txt", "kind": {"type": "delete"}, "diff": "gone\n"},
            {"path": f"{here}/new.txt", "kind": {"type": "add"}, "diff": "fresh\n"},
        ],
        "status": "completed",
        "startedAtMs": outcome.finished.started_at_ms,
        "completedAtMs": outcome.finished.completed_at_ms,
    }
    assert bench.items == [("started", "call-1", "inProgress"), ("completed", "call-1", "completed")]
    assert isinstance(bench.events[-1], ItemCompleted)
    assert bench.events[-1].item == outcome.item


async def test_the_function_form_takes_the_patch_as_input(bench: Bench) -> None:
    outcome = await bench.call("apply_patch", {"input": "*** Begin Patch\n*** Add File: n\n+1\n*** End Patch"})
    assert plain(outcome.output) == f"{SUCCESS}A n\n"
    missing = await bench.call("apply_patch", {"patch": ""})
    assert missing.output == "failed to parse function arguments: missing field `input` at line 1 column 13"


async def test_a_patch_as_a_command_runs_as_a_patch(bench: Bench) -> None:
    (bench.project / "sub").mkdir()
    text = "*** Begin Patch\n*** Add File: n.txt\n+hello\n*** End Patch"
    outcome = await bench.run(f"apply_patch <<'EOF'\n{text}\nEOF")
    assert plain(outcome.output) == f"Wall time: T seconds\nOutput:\n{SUCCESS}A n.txt\n"
    outcome = await bench.run(f"cd sub && apply_patch <<EOF\n{text}\nEOF\n")
    assert plain(outcome.output) == f"Wall time: T seconds\nOutput:\n{SUCCESS}A n.txt\n"
    assert files(bench.project) == {"n.txt": "hello\n", "sub/n.txt": "hello\n"}
    failed = await bench.run("apply_patch <<'EOF'\nno patch\nEOF")
    assert failed.output == (
        "apply_patch verification failed: invalid patch: The first line of the patch must be '*** Begin Patch'"
    )


async def test_crlf_files_keep_their_line_ends(bench: Bench) -> None:
    (bench.project / "w.txt").write_bytes(b"one\r\ntwo\r\nthree\r\n")
    assert (await bench.patch(update("w.txt", "@@", " one", "-two", "+2", "+2b", "@@", "+end"))).success
    assert (bench.project / "w.txt").read_bytes() == b"one\r\n2\r\n2b\r\nthree\r\nend\r\n"


async def test_bytes_that_are_no_text_survive(bench: Bench) -> None:
    (bench.project / "latin.txt").write_bytes(b"caf\xe9\nx\n")
    outcome = await bench.patch(update("latin.txt", "@@", "-x", "+y"))
    assert outcome.success
    assert (bench.project / "latin.txt").read_bytes() == b"caf\xe9\ny\n"
    assert outcome.item is not None
    assert outcome.item.fields["changes"][0]["diff"] == "@@ -1,2 +1,2 @@\n caf\ufffd\n-x\n+y\n"


async def test_mode_bits_stay_and_nothing_is_left_beside(bench: Bench) -> None:
    script = bench.project / "run.sh"
    script.write_text("echo 1\n")
    script.chmod(0o751)
    assert (await bench.patch(update("run.sh", "@@", "-echo 1", "+echo 2"))).success
    assert stat.S_IMODE(script.stat().st_mode) == 0o751
    assert files(bench.project) == {"run.sh": "echo 2\n"}


async def test_a_link_is_followed_within_the_roots_and_never_out_of_them(confined: Bench, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("keep\n")
    (confined.project / "real.txt").write_text("a\n")
    (confined.project / "in").symlink_to("real.txt")
    (confined.project / "out").symlink_to(outside)
    (confined.project / "up").symlink_to(tmp_path)
    assert (await confined.patch(update("in", "@@", "-a", "+b"))).success
    assert (confined.project / "in").is_symlink()
    assert (confined.project / "real.txt").read_text() == "b\n"
    refused = "patch rejected: writing outside of the project; rejected by user approval settings"
    assert (await confined.patch(update("out", "@@", "-keep", "+lost"))).output == refused
    assert (await confined.patch("*** Begin Patch\n*** Add File: up/new\n+x\n*** End Patch")).output == refused
    assert outside.read_text() == "keep\n"


async def test_where_a_patch_may_write_depends_on_the_sandbox(confined: Bench) -> None:
    add = "*** Begin Patch\n*** Add File: {}\n+x\n*** End Patch"
    outside = "patch rejected: writing outside of the project; rejected by user approval settings"
    (confined.project / ".git").mkdir()
    assert (await confined.patch(add.format("fine.txt"))).success
    assert (await confined.patch(add.format("/etc/x.txt"))).output == outside
    assert (await confined.patch(add.format(".git/hooks/pre-commit"))).output == outside
    assert (await confined.patch(add.format(".codex/config.toml"))).output == outside
    confined.mode = SandboxMode.READ_ONLY
    assert (await confined.patch(add.format("no.txt"))).output == (
        "patch rejected: writing is blocked by read-only sandbox; rejected by user approval settings"
    )
    assert files(confined.project) == {"fine.txt": "x\n"}


async def test_a_patch_outside_is_asked_for_and_the_answer_may_last(confined: Bench, tmp_path: Path) -> None:
    confined.approval = ApprovalPolicy.ON_REQUEST
    target = tmp_path / "beside.txt"
    text = f"*** Begin Patch\n*** Add File: {target}\n+x\n*** End Patch"
    declined = await confined.patch(text)
    assert (declined.output, declined.success, declined.aborted) == ("patch rejected by user", False, False)
    assert declined.finished is not None
    assert (declined.finished.recorded["status"], declined.finished.recorded["stderr"]) == (
        "declined",
        "patch rejected by user",
    )
    assert not target.exists()
    assert confined.person.asked == [
        ApprovalRequest(
            kind="patch",
            thread_id="thread-1",
            turn_id="turn-1",
            call_id="call-1",
            cwd=str(confined.project),
            escalated=True,
            changes={str(target): {"type": "add", "content": "x\n"}},
        )
    ]
    confined.person.answers = [Decision.SESSION, Decision.ABORT]
    assert (await confined.patch(text)).success
    assert (await confined.patch(text)).success
    assert len(confined.person.asked) == 2
    cut = await confined.patch(text.replace("beside", "another"))
    assert (cut.output, cut.aborted) == ("Wall time: 0.1 seconds\naborted by user", True)


async def test_a_write_that_fails_says_what_was_done(bench: Bench) -> None:
    (bench.project / "file").write_text("x\n")
    outcome = await bench.patch(
        "*** Begin Patch\n*** Add File: ok.txt\n+1\n*** Add File: file/below\n+2\n*** End Patch"
    )
    assert outcome.success is False
    assert plain(outcome.output) == (
        "Exit code: 1\nWall time: T seconds\nOutput:\n"
        f"Failed to write file {bench.project}/file/below: Not a directory (os error 20)\nAlready done:\nA ok.txt"
    )
    assert outcome.finished is not None
    assert outcome.finished.recorded["status"] == "failed"
    assert files(bench.project) == {"file": "x\n", "ok.txt": "1\n"}


def changed(before: str, *chunk: str) -> str:
    patch = parse_patch(update("f", *chunk))
    (change,) = plan(patch, Path("/p"), lambda _path: before)
    assert change.after is not None
    return change.after


def problem(before: str, *chunk: str) -> str:
    with pytest.raises(PatchInvalid) as caught:
        changed(before, *chunk)
    return caught.value.message


def test_typographic_characters_are_taken_for_plain_ones() -> None:
    assert changed("say \u201chi\u201d \u2014 now\n", "@@", '-say "hi" - now', "+said") == "said\n"


def test_the_end_of_file_mark_prefers_the_end_and_falls_back() -> None:
    assert changed("x\ny\nx\n", "@@", "-x", "+z", "*** End of File") == "x\ny\nz\n"
    assert changed("x\ny\n", "@@", "-x", "+z", "*** End of File") == "z\ny\n"


def test_an_empty_last_line_may_be_left_out_when_looking() -> None:
    assert changed("a\nb\n", "@@", "-b", "+c", "") == "a\nc\n"


def test_an_empty_line_in_a_chunk_is_an_empty_line_of_the_file() -> None:
    assert changed("a\n\nb\n", "@@", " a", "", "-b", "+c") == "a\n\nc\n"


def test_chunks_must_stand_in_order() -> None:
    assert problem("a\nb\n", "@@", "-b", "+B", "@@", "-a", "+A") == "Failed to find expected lines in /p/f:\na"


def test_two_headers_in_a_row_are_an_error() -> None:
    assert problem("a\n", "@@ class A", "@@ def b", "-a", "+b") == (
        "invalid hunk at line 4, Unexpected line found in update hunk: '@@ def b'. Every line should start with "
        "' ' (context line), '+' (added line), or '-' (removed line)"
    )


def test_a_header_without_lines_is_an_error() -> None:
    assert problem("a\n", "@@", "-a", "+b", "@@") == "invalid hunk at line 6, Update hunk does not contain any lines"


def test_heredocs_and_blanks_around_the_patch_are_taken_off() -> None:
    inner = update("f", "@@", "-a", "+b")
    for text in (f"\n {inner}  \n", f"<<EOF\n{inner}\nEOF", f"<<'EOF'\n{inner}\nEOF\n", f'<<"X"\n{inner}\nX'):
        wanted = UpdateFile("f", None, (Chunk(old=["a"], new=["b"]),))
        assert parse_patch(text) == Patch((wanted,))


@pytest.mark.parametrize("text", ["*** Begin Patch\n*** End Patch\nmore", "*** Begin Patch"])
def test_text_after_the_end_is_an_error(text: str) -> None:
    with pytest.raises(PatchInvalid, match="The last line of the patch must be"):
        parse_patch(text)


def test_a_folder_cannot_be_deleted(tmp_path: Path) -> None:
    patch = parse_patch("*** Begin Patch\n*** Delete File: .\n*** End Patch")
    with pytest.raises(PatchInvalid) as caught:
        plan(patch, tmp_path, Path.read_text)
    assert caught.value.message == f"Failed to read {tmp_path}: Is a directory (os error 21)"


LINES = st.lists(st.text(st.sampled_from("ab \u2013\r"), max_size=3), max_size=12)


@given(LINES, LINES)
def test_a_diff_is_empty_exactly_when_nothing_changed(before: list[str], after: list[str]) -> None:
    old, new = "".join(f"{line}\n" for line in before), "".join(f"{line}\n" for line in after)
    assert (unified_diff(old, new) == "") is (old == new)


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=10), st.integers(0, 9), st.lists(st.sampled_from("xyz")))
def test_a_replaced_line_lands_where_its_context_says(lines: list[str], at: int, new: list[str]) -> None:
    at %= len(lines)
    before, after = lines[:at], lines[at + 1 :]
    chunk = [*(f" {line}" for line in before), f"-{lines[at]}", *(f"+{line}" for line in new)]
    chunk += [f" {line}" for line in after]
    assert changed("".join(f"{line}\n" for line in lines), "@@", *chunk) == "".join(
        f"{line}\n" for line in [*before, *new, *after]
    )


def test_a_file_without_a_last_newline_shows_it_in_the_diff() -> None:
    assert unified_diff("a", "b\n") == "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n"
    assert unified_diff("", "b\n") == "@@ -0,0 +1 @@\n+b\n"
