"""Keys of a TOML text are found on their lines."""

from __future__ import annotations

import tomllib
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from clew.config.positions import key_lines, split_key

TEXT = '''# a comment with = and [brackets]
model = "a # b = c"
"quoted key" = 1
text = """
fake = 1
[fake]
""""
list = [
  1, # one
  { inner = 2 },
  [ "]" ],
]
a.b . 'c d' = true
inline = { x = 1, y = { z = "}" } }
literal = \'\'\'
also_fake = 2\'\'\'
[table]
key = 1979-05-27 07:32:00
[model_providers."my.one"]
name = 'x'
[[many]]
first = 1
[[many]]
first = 2
last = -1.5
'''


def test_every_key_is_found_on_its_line() -> None:
    tomllib.loads(TEXT)
    assert key_lines(TEXT) == {
        ("model",): 2,
        ("quoted key",): 3,
        ("text",): 4,
        ("list",): 8,
        ("a", "b", "c d"): 13,
        ("inline",): 14,
        ("inline", "x"): 14,
        ("inline", "y"): 14,
        ("inline", "y", "z"): 14,
        ("literal",): 15,
        ("table",): 17,
        ("table", "key"): 18,
        ("model_providers", "my.one"): 19,
        ("model_providers", "my.one", "name"): 20,
        ("many",): 21,
        ("many", "first"): 22,
        ("many", "last"): 25,
        ("list", "inner"): 10,
    }


def test_windows_line_ends_and_no_last_newline() -> None:
    assert key_lines("a = 1\r\n[t]\r\nb = 2") == {("a",): 1, ("t",): 2, ("t", "b"): 3}


def test_dotted_keys_are_split_as_toml_splits_them() -> None:
    assert split_key("a.b.c") == ("a", "b", "c")
    assert split_key(' model_providers."x.y" . base_url ') == ("model_providers", "x.y", "base_url")
    assert split_key("'") is None
    assert split_key("a..b") is None
    assert split_key("a b") is None
    assert split_key("") is None


_names = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=6)
_scalars = st.one_of(
    st.booleans(), st.integers(-(2**40), 2**40), st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")))
)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return "[" + ",\n ".join(_written(entry) for entry in cast("list[Any]", value)) + "]"
    return str(value)


@given(st.lists(st.tuples(_names, st.one_of(_scalars, st.lists(_scalars, max_size=3))), unique_by=lambda pair: pair[0]))
def test_any_flat_document_is_scanned(pairs: list[tuple[str, Any]]) -> None:
    text, expected, line = "", {}, 1
    for name, value in pairs:
        chunk = f"{_quoted(name)} = {_written(value)}\n"
        expected[(name,)] = line
        text += chunk
        line += chunk.count("\n")
    assert tomllib.loads(text) == dict(pairs)
    assert key_lines(text) == expected
