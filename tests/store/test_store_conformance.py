"""The store of the default installation passes the suite, on a disk and in memory."""

from __future__ import annotations

import pytest

from clew.testing.conformance import CHECKS, FILE_CHECKS, Check, StoreUnderTest, check_name


@pytest.mark.anyio
@pytest.mark.parametrize("check", [*CHECKS, *FILE_CHECKS], ids=check_name)
async def test_the_local_store_conforms(check: Check, store: StoreUnderTest) -> None:
    await check(store)
