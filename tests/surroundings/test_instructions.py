"""Clew's own texts name the tools and the rules that the agent really has."""

from __future__ import annotations

from clew.agent.instructions import BASE_INSTRUCTIONS, COMPACT_PROMPT


def test_base_instructions_name_tools_and_rules() -> None:
    for word in (
        "`exec_command`",
        "`write_stdin`",
        "`apply_patch`",
        "`sandbox_permissions",
        "`justification`",
        "AGENTS.md",
    ):
        assert word in BASE_INSTRUCTIONS
    assert all(len(line) < 1000 for line in BASE_INSTRUCTIONS.splitlines())
    assert BASE_INSTRUCTIONS.endswith(".\n")


def test_the_compaction_prompt_asks_for_a_hand_over_without_tools() -> None:
    assert "hand-over" in COMPACT_PROMPT
    assert "Do not call tools" in COMPACT_PROMPT
