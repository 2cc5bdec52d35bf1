"""A scan finds exactly the threads in which Python finds the text, whatever the characters, eras and files are."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from search_home import RIPGREP, ScanHome, exact, pattern, respelled

from clew.store.search.spelling import required_texts
from clew.testing import Call, ThreadBuilder
from clew.testing.builders import BEGINNING, Era

_LETTERS = (
    "aAkKsSiI\u0131\u0130\u017f\u212a\u00e9\u00c9\u00df\u1e9e\u4e2d\u0416\u0436\u03a3\u03c3\u03c2\U00010400\U00010428"
)
_SIGNS = "\"\\/\n\t\r\0\7\33\177\u0085\u2028 {}[]<>:,.*+?()|^$-=_~%&#@`'0\U0001f600\ufffd"
_PIECE = st.text(alphabet=_LETTERS + _SIGNS, min_size=1, max_size=6) | st.text(min_size=1, max_size=4)
_ERAS: list[Era] = ["0.29", "0.36", "0.60", "0.104", "0.142", "0.169"]


def _writable(text: str) -> str:
    """Half surrogate pairs become U+FFFD when they are written."""
    return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)


_SAID = st.lists(_PIECE, min_size=1, max_size=4).map(lambda pieces: _writable(f"q{'x'.join(pieces)}q"))


@dataclass(frozen=True)
class _Told:
    era: Era
    user: str
    agent: str
    command: str
    output: str
    archived: bool
    compressed: bool
    respelled: bool

    @property
    def texts(self) -> tuple[str, ...]:
        """In the order of the log."""
        return self.user, self.command, self.output, self.agent

    def thread(self, number: int) -> ThreadBuilder:
        thread = ThreadBuilder(self.era, start=BEGINNING + 3600 * number, seed=number)
        thread.turn(self.user, self.agent, calls=[Call(self.command, self.output)])
        return respelled(thread) if self.respelled else thread


_TOLD = st.builds(
    _Told, st.sampled_from(_ERAS), _SAID, _SAID, _SAID, _SAID, st.booleans(), st.booleans(), st.booleans()
)


@st.composite
def _homes(draw: st.DrawFn) -> tuple[list[_Told], str]:
    """Some threads, and a text that stands in them somewhere, or perhaps not."""
    told = draw(st.lists(_TOLD, min_size=1, max_size=4))
    if draw(st.booleans()):
        return told, _writable(draw(_PIECE))
    said = draw(st.sampled_from([text for one in told for text in one.texts]))
    at = draw(st.integers(0, len(said) - 1))
    return told, said[at : at + draw(st.integers(1, 8))]


@given(home=_homes(), ignore_case=st.booleans(), with_ripgrep=st.sampled_from([True, True, False]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_a_scan_finds_what_python_finds(home: tuple[list[_Told], str], ignore_case: bool, with_ripgrep: bool) -> None:
    told, needle = home
    if not needle.strip():
        return
    rule = re.compile(re.escape(needle), re.IGNORECASE if ignore_case else 0)
    case = not ignore_case
    with tempfile.TemporaryDirectory() as folder:
        store = ScanHome(Path(folder), ripgrep=RIPGREP if with_ripgrep else None)
        ids = {
            store.add(one.thread(number), archived=one.archived, compressed=one.compressed): one
            for number, one in enumerate(told)
        }
        expected = {thread_id: sum(map(bool, map(rule.search, one.texts))) for thread_id, one in ids.items()}
        expected = {thread_id: count for thread_id, count in expected.items() if count}
        for query in (exact(needle, case_sensitive=case), pattern(re.escape(needle), case_sensitive=case)):
            assert {hit.thread.id: hit.count for hit in store.search(query).hits} == expected
        for thread_id, one in ids.items():
            inside = store.inside(thread_id, exact(needle, case_sensitive=case)).hits
            assert [hit.count for hit in inside] == [len(found) for text in one.texts if (found := rule.findall(text))]


_PARTS = [
    "ab",
    "b",
    r"\d",
    r"\w+",
    "a*",
    "(?:ab|ba)",
    "(ab)+",
    "(?i:aB)",
    "[ab]c",
    "c?",
    "(?=a)",
    "^",
    "$",
    r"\b",
    *["(?:a|)", ".", r"\\", '"', "\n", "\u00e9", "(a)(?!b)", "(?>ab)", "a++", "(?:ab){2,3}?"],
]


@given(parts=st.lists(st.sampled_from(_PARTS), min_size=1, max_size=5), text=st.text('abAB01c\\"\n\u00e9', max_size=12))
@settings(max_examples=500, deadline=None)
def test_what_an_expression_asks_for_stands_in_all_it_matches(parts: list[str], text: str) -> None:
    expression = re.compile("".join(parts), re.MULTILINE)
    found = required_texts(expression.pattern, expression.flags)
    if found is None:
        return
    texts, ignore_case = found
    for match in expression.finditer(text):
        there = match[0].lower() if ignore_case else match[0]
        assert any((one.lower() if ignore_case else one) in there for one in texts)
