"""Thread ids in every spelling, and what is said of text that is none."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.server.mcp.arguments import canonical_uuid, uuid_fault

ID = "01a1f83f-0000-7000-8000-00000000000a"
CHARACTER = (
    "invalid character: expected an optional prefix of `urn:uuid:` followed by [0-9a-fA-F-], found `{}` at {}".format
)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("not-a-uuid", CHARACTER("n", 1)),
        ("", "invalid length: expected length 32 for simple format, found 0"),
        ("abc", "invalid length: expected length 32 for simple format, found 3"),
        ("01é", CHARACTER("é", 3)),
        ("éz", CHARACTER("é", 1)),
        ("0-1", "invalid group count: expected 5, found 2"),
        (f"{ID}-0", "invalid group count: expected 5, found 6"),
        (f"{ID}0", "invalid group length in group 5: expected 12, found 13"),
        ("01a1f83-0000-7000-8000-00000000000a", "invalid group length in group 1: expected 8, found 7"),
        ("urn:uuid:x", CHARACTER("x", 10)),
        ("{x}", CHARACTER("x", 2)),
        (f"urn:uuid:{ID.replace('-', '')}", "invalid group count: expected 5, found 1"),
    ],
)
def test_text_that_is_no_id_is_refused_in_the_old_words(text: str, fault: str) -> None:
    assert canonical_uuid(text) is None
    assert uuid_fault(text) == fault


@given(st.uuids(), st.sampled_from(["{}", "urn:uuid:{}", "{{{}}}"]), st.booleans())
def test_every_spelling_has_one_canonical_form(value: uuid.UUID, form: str, upper: bool) -> None:
    text = str(value).upper() if upper else str(value)
    assert canonical_uuid(form.format(text)) == str(value)
    assert canonical_uuid(value.hex) == str(value)


@given(st.text(max_size=50))
def test_any_other_text_has_a_fault(text: str) -> None:
    if canonical_uuid(text) is None:
        assert uuid_fault(text) != "not a UUID"
