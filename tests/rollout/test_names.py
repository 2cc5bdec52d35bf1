from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.rollout import RolloutName, canonical_id

T = "01a1f852-4b6e-7350-840d-6db0bbee9b0a"
S = "01a1f852-dbe0-7f91-b4b7-8f94dd371c18"


@given(st.uuids(), st.none() | st.uuids(), st.booleans(), st.datetimes(datetime(1970, 1, 1)))
def test_names_come_back_as_they_were(thread: object, segment: object | None, zst: bool, when: datetime) -> None:
    name = RolloutName(f"{when:%Y-%m-%dT%H-%M-%S}", str(thread), str(segment) if segment else None, zst)
    assert RolloutName.parse(name.format()) == name
    assert name.time == when.replace(microsecond=0)
    assert name.rollout_id == str(segment or thread)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"rollout-2026-11-20T09-38-25-{T}.jsonl", RolloutName("2026-11-20T09-38-25", T)),
        (f"rollout-2026-11-20T09-38-25-{T.upper()}.jsonl", RolloutName("2026-11-20T09-38-25", T)),
        (f"rollout-odd-{S}-{T}.jsonl.zst", RolloutName(f"odd-{S}", T, None, True)),
        (f"rollout-2026-{T}_{S}.jsonl", RolloutName("2026", T, S)),
        (f"rollout-2026-11-20T09-38-25-{T}.json", None),
        (f"other-2026-11-20T09-38-25-{T}.jsonl", None),
        ("rollout-2026-11-20T09-38-25.jsonl", None),
        (f"rollout-2026-11-20T09-38-25-{T}.jsonl.decompress.12.0.tmp", None),
        (f"rollout-2026-11-20T09-38-25-{T}_nonsense.jsonl", None),
        ("", None),
    ],
)
def test_parsing(text: str, name: RolloutName | None) -> None:
    assert RolloutName.parse(text) == name


def test_an_odd_stamp_is_no_time() -> None:
    assert RolloutName("odd", T).time is None


@pytest.mark.parametrize("text", [T, T.upper(), f"urn:uuid:{T}", f"{{{T}}}", T.replace("-", ""), f" {T}\n"])
def test_every_spelling_of_an_id(text: str) -> None:
    assert canonical_id(text) == T


@pytest.mark.parametrize("text", ["", "last", "../../etc/passwd", T[:-1], f"{T}/x", "01a1f852"])
def test_what_is_no_id(text: str) -> None:
    assert canonical_id(text) is None
