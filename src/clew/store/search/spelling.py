"""How a text may be spelled in the JSON of a log: regular expressions for ripgrep that match every spelling.

A log holds texts as JSON strings, some of them (the arguments of calls) as JSON strings inside JSON strings. What is
made here never misses a line in which the text stands; it may match lines in which it does not, so that each is read
and looked at before it counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module
from typing import Any

__all__ = ["case_variants", "needles", "required_texts", "spelled"]

_CONTROLS = {"\b": "b", "\t": "t", "\n": "n", "\f": "f", "\r": "r"}
_SPECIAL = frozenset('\\.+*?()|[]{}^$#&-~"/ \t\n\r\f\v')

_KIN = (
    "i\u0130\u0131",
    "k\u212a",
    "s\u017f",
    "\u00e5\u212b",
    "\u00df\u1e9e",
    "\u0345\u1fbe\u03b9",
    "\u0390\u1fd3",
    "\u03b2\u03d0",
    "\u03b5\u03f5",
    "\u03b8\u03d1\u03f4",
    "\u03ba\u03f0",
    "\u03bc\u00b5",
    "\u03c0\u03d6",
    "\u03c1\u03f1",
    "\u03c3\u03c2",
    "\u03c6\u03d5",
    "\u03c9\u2126",
    "\u03b0\u1fe3",
    "\u0432\u1c80",
    "\u0434\u1c81",
    "\u043e\u1c82",
    "\u0441\u1c83",
    "\u0442\u1c84\u1c85",
    "\u044a\u1c86",
    "\u0463\u1c87",
    "\u1e61\u1e9b",
    "\ua64b\u1c88",
    "\ufb05\ufb06",
)
"""Characters that Python takes for the same when case is ignored, and that no change of case leads to."""

_ODD = r"\\u(?:00[2-7]|013[01]|017[fF]|212[aA])"
"""An escape where nobody needs one: of a printable ASCII character, or of one that ASCII letters are taken for. A line
with such a thing is looked at, whatever else stands in it."""

_LONGEST = 200
"""Characters of a text that are looked for before its line is read."""

_SEVERAL_PARTS = r'"(?:User|Agent)Message".*"text":\s*".*"text":\s*"'
"""A message in several parts: they are read as one text, and a text may begin in one and end in the next."""

_JOINED = r'(?:command\\*":\s*\[|"arguments":|"(?:content|output)":\s*\[).*'
"""Where words of a list, or texts of several members, are read as one with a space or a new line between them."""


def case_variants(character: str) -> frozenset[str]:
    """All characters that this one is taken for when case is ignored, itself among them."""
    seen, todo = {character}, [character]
    while todo:
        one = todo.pop()
        kin = [group for group in _KIN if one in group]
        for other in (one.lower(), one.upper(), one.title(), one.casefold(), *"".join(kin)):
            if len(other) == 1 and other not in seen:
                seen.add(other)
                todo.append(other)
    return frozenset(seen)


def spelled(text: str, *, ignore_case: bool) -> str:
    """An expression in ripgrep's words that matches the text in any of the spellings JSON has for it, once or twice
    encoded. Escapes of printable ASCII characters are not among them (see `needles`)."""
    return "".join(_spelled(character, ignore_case=ignore_case) for character in text)


def _spelled(character: str, *, ignore_case: bool) -> str:
    code = ord(character)
    if character == "\\":
        return r"\\+"
    if character == '"':
        return r'\\+"'
    if character == "/":
        return r"\\*/"
    if code < 0x20:
        short = _CONTROLS.get(character)
        return rf"\\+(?:u{_hex(code)}{f'|{short}' if short else ''})"
    if code < 0x80:
        letter = f"\\{character}" if character in _SPECIAL else character
        if code == 0x7F:
            return r"\x7f"
        return f"(?i:{letter})" if ignore_case and character.isalpha() else letter
    variants = sorted(case_variants(character)) if ignore_case else [character]
    return "(?:" + "|".join(way for one in variants for way in _ways(one)) + ")"


def _ways(character: str) -> Iterable[str]:
    """One character raw and escaped."""
    code = ord(character)
    if 0xD800 <= code < 0xE000:
        # Half a pair cannot be in a text that was read: it became U+FFFD.
        return
    yield rf"\x{{{code:x}}}"
    if code == 0xFFFD:
        yield r"\\+u[dD][89a-fA-F][0-9a-fA-F]{2}"
    if code < 0x80:
        return
    units = character.encode("utf-16-be")
    yield "".join(rf"\\+u{_hex(int.from_bytes(units[at : at + 2], 'big'))}" for at in range(0, len(units), 2))


def _hex(code: int) -> str:
    """Four digits of either case."""
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in f"{code:04x}")


def needles(texts: Iterable[str], *, ignore_case: bool) -> list[str] | None:
    """Expressions for ripgrep of which at least one matches every line that one of the texts stands in. None where the
    texts say too little for that."""
    out = [_ODD, _SEVERAL_PARTS]
    for text in texts:
        if not text:
            return None
        text = text[:_LONGEST]
        out.append(spelled(text, ignore_case=ignore_case))
        if ignore_case and any(character in "iI" for character in text):
            out.append(r"[\x{130}\x{131}]")
        if re.search(r"\s", text):
            word = max(re.split(r"[\s\"'\\]+", text), key=len)
            if not word:
                return None
            out.append(_JOINED + spelled(word, ignore_case=ignore_case))
    return list(dict.fromkeys(out))


# -- what an expression asks for --------------------------------------------------------------------------------------


def required_texts(pattern: str, flags: int) -> tuple[tuple[str, ...], bool] | None:
    """Texts of which at least one stands in whatever a regular expression matches, and whether their case may differ.
    None where no such text can be told."""
    try:
        parser: Any = import_module("re._parser")
    except ImportError:
        return None
    tree: Any = parser.parse(pattern, flags)
    found = _Reader().best(list(tree))
    if found is None:
        return None
    return found, bool(tree.state.flags & re.IGNORECASE) or _ignores_case(tree)


def _ignores_case(tree: Any) -> bool:
    """Whether some part of an expression does, by a flag of its own."""
    for operation, argument in tree:
        name = str(operation)
        if name == "SUBPATTERN" and argument[1] & re.IGNORECASE:
            return True
        if any(_ignores_case(part) for part in _parts(name, argument)):
            return True
    return False


def _parts(name: str, argument: Any) -> list[Any]:
    match name:
        case "SUBPATTERN":
            return [argument[3]]
        case "BRANCH":
            return list(argument[1])
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            return [argument[2]]
        case "ATOMIC_GROUP":
            return [argument]
        case "ASSERT" | "ASSERT_NOT":
            return [argument[1]]
        case "GROUPREF_EXISTS":
            return [part for part in argument[1:] if part is not None]
        case _:
            return []


class _Reader:
    """Finds the longest texts that every match of a parsed expression holds."""

    def best(self, tree: list[Any]) -> tuple[str, ...] | None:
        choices: list[tuple[str, ...]] = []
        run: list[str] = []

        def end_run() -> None:
            if run:
                choices.append(("".join(run),))
                run.clear()

        for operation, argument in _flat(tree):
            match str(operation):
                case "LITERAL":
                    run.append(chr(argument))
                case "AT":
                    pass
                case "BRANCH":
                    end_run()
                    found = [self.best(list(part)) for part in argument[1]]
                    if all(found):
                        choices.append(tuple(text for texts in found for text in texts or ()))
                case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                    end_run()
                    if argument[0] > 0 and (texts := self.best(list(argument[2]))):
                        choices.append(texts)
                case _:
                    end_run()
        end_run()
        return max(choices, key=_worth, default=None)


def _flat(tree: Iterable[Any]) -> Iterable[tuple[Any, Any]]:
    """The parts of a sequence, those of its groups among them; looking ahead and behind takes no text."""
    for operation, argument in tree:
        match str(operation):
            case "SUBPATTERN":
                yield from _flat(argument[3])
            case "ATOMIC_GROUP":
                yield from _flat(argument)
            case "ASSERT" | "ASSERT_NOT":
                pass
            case _:
                yield operation, argument


def _worth(texts: tuple[str, ...]) -> tuple[int, int]:
    return min(map(len, texts)), -len(texts)
