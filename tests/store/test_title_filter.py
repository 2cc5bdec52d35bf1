"""Lists by a text in the title say what a look at every title says, however short the text is."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_bench import BEGINNING, IndexBench, listed

from clew.index import catalog
from clew.store.queries import ListQuery
from clew.testing import ThreadBuilder

LETTERS = "ab \"'é*Éß\u0131K\x01"
TITLES = st.text(LETTERS, min_size=1, max_size=8)


@settings(max_examples=20, deadline=None)
@given(
    titles=st.lists(TITLES, min_size=1, max_size=6),
    texts=st.lists(st.text(LETTERS, min_size=1, max_size=5), min_size=1, max_size=8),
    few=st.sampled_from([0, 2, 2000]),
    short=st.sampled_from([0, 2, 300]),
    some=st.sampled_from([1, 32]),
)
def test_a_text_is_found_in_titles(titles: list[str], texts: list[str], few: int, short: int, some: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "FEW", few)
        patch.setattr(catalog, "SHORT_TERMS", short)
        patch.setattr(catalog, "SOME", some)
        bench = IndexBench(Path(folder))
        for number, title in enumerate(titles):
            thread = ThreadBuilder("0.169", start=BEGINNING + 60 * number, seed=number)
            thread.turn(f"-{title}-" if number % 2 else title, "Done.").write(bench.home)
        bench.keep()
        indexed = bench.open().catalog
        for text in [*texts, titles[0][-1:], titles[0][-2:], titles[-1][:1]]:
            for query in (ListQuery(text=text), ListQuery(text=text, sort="name", limit=2)):
                assert listed(indexed, query) == listed(bench.plain, query), text
        bench.close()
