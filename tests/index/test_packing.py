"""Records of the index, packed one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.index.packing import Packing


@given(st.binary(max_size=2000))
def test_a_packed_record_comes_back_as_it_was(record: bytes) -> None:
    assert Packing().unpack(Packing().pack(record)) == record


def test_what_records_share_is_not_kept_in_each() -> None:
    record = b"\xb82026-10-29T23:45:28.000Z\xaccodex_cli_rs\xa6legacy\xabtool_output\xaatool_calls\xabbookkeeping"
    assert len(Packing().pack(record)) < len(record) * 2 // 3


@pytest.mark.parametrize("packed", [b"", b"no record", Packing().pack(b"a record that is cut off" * 9)[:-3]])
def test_what_is_no_packed_record_is_told(packed: bytes) -> None:
    with pytest.raises(ValueError, match=r"zstd|frame|decompress"):
        Packing().unpack(packed)
