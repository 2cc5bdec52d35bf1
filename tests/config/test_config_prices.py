"""What models cost is what the user says, and nothing else."""

from __future__ import annotations

import pytest
from config_homes import Homes

from clew.config import examine, load
from clew.config.prices import Price
from clew.errors import ConfigInvalid


def test_without_prices_there_are_none(homes: Homes) -> None:
    assert load(homes.env).prices == {}


def test_prices_are_read_by_model_from_both_files(homes: Homes) -> None:
    homes.codex_file('[stats.prices."gpt-5.1"]\ninput = 1.25\ncached = 0.125\noutput = 10\n')
    path = homes.clew_file('[stats.prices]\nlocal = { input = 0, output = 0 }\n[stats.prices."gpt-5.1"]\noutput = 12\n')

    config = load(homes.env)

    assert config.prices == {
        "gpt-5.1": Price(input=1.25, cached=0.125, output=12.0),
        "local": Price(input=0.0, output=0.0),
    }
    shown = {entry.key: (entry.value, entry.source) for entry in config.sources()}
    assert shown['stats.prices."gpt-5.1".output'] == (12.0, f"{path}:4")
    assert shown["stats.prices.local.input"] == (0.0, f"{path}:2")


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("[stats.prices.m]\ninput = 1\n", 1, "missing field `output`, the price of a million tokens"),
        ("[stats.prices.m]\noutput = 1\n", 1, "missing field `input`, the price of a million tokens"),
        ("[stats.prices.m]\ninput = -1\noutput = 1\n", 2, "invalid value: `-1`, expected a price from 0 up"),
        ("[stats.prices.m]\ninput = 1\noutput = 'ten'\n", 3, "invalid value: `ten`, expected a price from 0 up"),
        ("[stats.prices.m]\ninput = 1\noutput = nan\n", 3, "invalid value: `nan`, expected a price from 0 up"),
        ("[stats.prices.m]\ninput = 1\noutput = 1\ncached = true\n", 4, "invalid value: `True`, expected a price"),
        ("[stats.prices]\nm = 3\n", 2, "invalid type: integer `3`, expected a table"),
        ("stats = 3\n", 1, "invalid type: integer `3`, expected a table"),
    ],
)
def test_a_wrong_price_is_named_with_its_place(homes: Homes, text: str, line: int, why: str) -> None:
    path = homes.clew_file(text)

    with pytest.raises(ConfigInvalid) as caught:
        load(homes.env)

    assert (caught.value.path, caught.value.line) == (str(path), line)
    assert caught.value.why.startswith(why)


def test_unknown_keys_are_told_and_refused_when_strict(homes: Homes) -> None:
    path = homes.clew_file("[stats]\ncolour = 1\n[stats.prices.m]\ninput = 1\noutput = 1\noutputs = 2\n")

    assert load(homes.env).warnings == (
        f"{path}:2: `stats.colour` is not known; known are prices.",
        f"{path}:6: `stats.prices.m.outputs` is not known; known are input, cached, output.",
    )
    problems = [str(problem) for problem in examine(homes.env, strict=True)[1]]
    assert problems == [
        f"{path}:2: `stats.colour` is not known",
        f"{path}:6: `stats.prices.m.outputs` is not known; did you mean `stats.prices.m.output`?",
    ]
