from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clew.config import Config, load
from clew.config.retention import Retention, RetentionRule
from clew.errors import ConfigInvalid


def configured(tmp_path: Path, text: str) -> Config:
    (tmp_path / "config.toml").write_text(text)
    return load({"HOME": str(tmp_path)}, codex_home=str(tmp_path), clew_home=str(tmp_path / "clew"))


def test_it_is_off_by_default(tmp_path: Path) -> None:
    assert configured(tmp_path, "").retention == Retention(rules=(), keep_tags=("keep",), keep_newest=10)


def test_rules_are_read_in_their_order(tmp_path: Path) -> None:
    text = """
[retention]
keep_newest = 3
keep_tags = ["keep", "best"]
[retention.rules.old-tries]
action = "trash"
older_than = "90d"
sources = ["exec", "mcp"]
tags = ["tmp"]
archived_only = true
[retention.rules.space]
action = "compress"
larger_than = "20GB"
"""
    assert configured(tmp_path, text).retention == Retention(
        keep_newest=3,
        keep_tags=("keep", "best"),
        rules=(
            RetentionRule(
                name="old-tries",
                action="trash",
                older_than=90 * 86_400,
                sources=("exec", "mcp"),
                tags=("tmp",),
                archived_only=True,
            ),
            RetentionRule(name="space", action="compress", larger_than=20 * 10**9),
        ),
    )


@pytest.mark.parametrize(
    ("line", "text", "why"),
    [
        (2, "keep_newest = -1", "-1"),
        (2, 'keep_tags = "keep"', "expected a list of strings"),
        (2, "keep = 3", "is not known"),
        (2, "rules = 3", "expected a table"),
        (2, "[retention.rules.a]\nolder_than = '1d'", "missing field `action`"),
        (3, "[retention.rules.a]\naction = 'delete'\nolder_than = '1d'", "unknown variant `delete`"),
        (4, "[retention.rules.a]\naction = 'trash'\nolder_than = '90'", "expected a span"),
        (4, "[retention.rules.a]\naction = 'trash'\nolder_than = 90", "expected a string"),
        (4, "[retention.rules.a]\naction = 'trash'\nlarger_than = '20'", "expected a size"),
        (4, "[retention.rules.a]\naction = 'trash'\nolder = '90d'", "is not known"),
        (2, "[retention.rules.a]\naction = 'trash'", "missing field `older_than` or `larger_than`"),
        (5, "[retention.rules.a]\naction = 'trash'\nolder_than = '1d'\ntags = []", "an empty list fits nothing"),
        (5, "[retention.rules.a]\naction = 'trash'\nolder_than = '1d'\narchived_only = 1", "expected a boolean"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(tmp_path: Path, line: int, text: str, why: str) -> None:
    with pytest.raises(ConfigInvalid) as invalid:
        configured(tmp_path, f"[retention]\n{text}\n")
    assert (invalid.value.path, invalid.value.line) == (str(tmp_path / "config.toml"), line)
    assert why in str(invalid.value)


def test_rules_are_shown_as_they_were_written_with_their_places(tmp_path: Path) -> None:
    def shown(text: str) -> dict[str, tuple[Any, str]]:
        sources = configured(tmp_path, text).sources()
        return {entry.key: (entry.value, entry.source) for entry in sources if entry.key.startswith("retention.")}

    path = tmp_path / "config.toml"
    assert shown("") == {
        "retention.keep_newest": (10, "default"),
        "retention.keep_tags": (["keep"], "default"),
    }
    assert shown(
        "[retention]\nkeep_newest = 3\n[retention.rules.old]\naction = 'trash'\nolder_than = '90d'\ntags = ['tmp']\n"
    ) == {
        "retention.keep_newest": (3, f"{path}:2"),
        "retention.keep_tags": (["keep"], "default"),
        "retention.rules.old.action": ("trash", f"{path}:4"),
        "retention.rules.old.older_than": ("90d", f"{path}:5"),
        "retention.rules.old.tags": (["tmp"], f"{path}:6"),
    }
