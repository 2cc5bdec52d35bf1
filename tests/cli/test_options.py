"""Global options: taken from anywhere in the command line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.cli.options import APPROVALS, SANDBOXES, Globals, UsageError, did_you_mean, take_globals
from clew.settings import ApprovalPolicy, SandboxMode


def test_global_options_are_taken_before_and_behind_the_command() -> None:
    assert take_globals(["-m", "gpt-5", "mcp-server", "-c", "a.b=1", "--sandbox=read-only", "-anever"]) == (
        Globals(model="gpt-5", config=("a.b=1",), sandbox="read-only", approval="never"),
        ["mcp-server"],
    )


def test_values_may_be_attached_in_every_usual_way() -> None:
    for words in (["--model", "x"], ["--model=x"], ["-m", "x"], ["-mx"], ["-m=x"]):
        assert take_globals(words) == (Globals(model="x"), [])


def test_features_are_settings() -> None:
    options, _ = take_globals(["--enable", "goals", "-c", 'model="x"', "--disable=web"])
    assert options.config == ("features.goals=true", 'model="x"', "features.web=false")


def test_all_other_options_are_taken() -> None:
    words = ["--codex-home", "/a", "--clew-home", "/b", "-p", "fast", "-C", "/c", "--strict-config", "--debug"]
    assert take_globals(words) == (
        Globals(codex_home="/a", clew_home="/b", profile="fast", cd="/c", strict=True, debug=True),
        [],
    )


def test_options_that_stand_for_keys_name_themselves() -> None:
    options = Globals(model="m", sandbox="read-only", approval="never", config=("model=x",))
    assert options.settings() == {
        "model": ("--model", "m"),
        "sandbox_mode": ("--sandbox", "read-only"),
        "approval_policy": ("--ask-for-approval", "never"),
    }
    assert Globals(cd="/c").settings() == {}


def test_what_stands_behind_two_dashes_is_left_alone() -> None:
    options, rest = take_globals(["exec", "-m", "x", "--", "-m", "is a flag"])
    assert (options.model, options.literal, rest) == ("x", ("-m", "is a flag"), ["exec", "--", "-m", "is a flag"])


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["-m"], "-m needs a value", ""),
        (["exec", "--cd", "--"], "--cd needs a value", ""),
        (
            ["-s", "read_only"],
            "-s: 'read_only' is none of read-only, workspace-write, danger-full-access",
            "Did you mean read-only?",
        ),
        (["-c", "model"], "-c: 'model' is not KEY=VALUE", "For example: -c model_reasoning_effort=high"),
    ],
)
def test_wrong_options_are_explained(words: list[str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        take_globals(words)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_the_choices_are_those_of_the_settings() -> None:
    assert tuple(mode.value for mode in SandboxMode) == SANDBOXES
    assert tuple(policy.value for policy in ApprovalPolicy) == APPROVALS


def test_the_nearest_word_is_suggested() -> None:
    assert did_you_mean("lst", ["list", "show"]) == "Did you mean list?"
    assert did_you_mean("xyzzy", ["list", "show"]) == ""


_plain_words = st.lists(st.text(min_size=1).filter(lambda word: not word.startswith("-")), max_size=5)


@given(before=_plain_words, value=st.text(min_size=1), after=_plain_words)
def test_other_words_keep_their_order(before: list[str], value: str, after: list[str]) -> None:
    if value == "--":
        return
    assert take_globals([*before, "-m", value, *after]) == (Globals(model=value), [*before, *after])
