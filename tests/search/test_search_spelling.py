"""Which spellings are looked for: none of a text's is missed, and few lines are read for nothing."""

from __future__ import annotations

import re
import sys

from clew.store.search.spelling import case_variants, needles, required_texts


def test_whatever_python_takes_for_the_same_is_looked_for() -> None:
    cased = [
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if {character.lower(), character.upper(), character.title(), character.casefold()} != {character}
    ]
    everything = "".join(cased)
    for character in cased:
        same = set(re.findall(re.escape(character), everything, re.IGNORECASE))
        assert same <= case_variants(character), f"U+{ord(character):04X}"


def test_a_word_is_looked_for_as_it_stands() -> None:
    # ripgrep is quickest where what it looks for is plain.
    found = needles(["refactor"], ignore_case=False)
    assert found is not None
    assert "refactor" in found


def test_a_text_of_nothing_but_signs_of_json_is_looked_for_everywhere() -> None:
    for text in ("\n", " ", '"\n"'):
        assert needles([text], ignore_case=True) is None


def test_what_an_expression_asks_for() -> None:
    asked = {
        r"foo\d+barbaz": (("barbaz",), False),
        r"(?:alpha|beta)\w+": (("alpha", "beta"), False),
        r"(abc){2,}x?": (("abc",), False),
        r"(?i:Foo)bar": (("Foobar",), True),
        r"(?i)foo": (("foo",), True),
        r"x(?=yyyy)z": (("xz",), False),
        r"^fo(o)b$": (("foob",), False),
        r"(?x) a b  c # d": (("abc",), False),
        r"(?:a|)(?:b)?[cd]\w.": None,
        r"(?!foo)\d": None,
        "": None,
    }
    assert {pattern: required_texts(pattern, 0) for pattern in asked} == asked
