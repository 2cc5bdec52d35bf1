"""Strict reading: keys that nobody knows are errors, told with their place."""

from __future__ import annotations

import pytest
from config_homes import Homes

from clew.config import examine, load
from clew.config.providers import PROVIDER_KEYS
from clew.errors import ConfigInvalid


def test_unknown_keys_are_left_alone_unless_asked(homes: Homes) -> None:
    path = homes.codex_file('modl = "x"\n')
    assert load(homes.env).warnings == ()
    with pytest.raises(ConfigInvalid) as caught:
        load(homes.env, strict=True)
    assert str(caught.value) == f"{path}:1: `modl` is not known; did you mean `model`?"


def test_every_unknown_key_is_told_with_its_place(homes: Homes) -> None:
    codex = homes.codex_file(
        'zzz = 1\n[profiles.p]\nsandbox_mod = "read-only"\n[model_providers.x]\nbaseurl = "http://x"\n'
        "[sandbox_workspace_write]\nroots = []\n[tui]\nanything = 1\n[features]\nwhatever = true\n"
    )
    clew = homes.clew_file("[clew]\non_oef = 1\n")
    extra = homes.codex / "p.config.toml"
    extra.write_text("qqq = 1\n")
    config, problems = examine(homes.env, overrides=["mdel=1"], profile="p", strict=True)
    assert [str(problem) for problem in problems] == [
        f"{codex}:1: `zzz` is not known",
        f"{codex}:3: `profiles.p.sandbox_mod` is not known; did you mean `profiles.p.sandbox_mode`?",
        f"{codex}:5: `model_providers.x.baseurl` is not known; did you mean `model_providers.x.base_url`?",
        f"{codex}:7: `sandbox_workspace_write.roots` is not known",
        f"{clew}:2: `clew.on_oef` is not known; did you mean `clew.on_eof`?",
        f"{extra}:1: `qqq` is not known",
        "-c: `mdel` is not known; did you mean `model`?",
    ]
    assert config.warnings == ()


def test_what_clew_reads_is_known(homes: Homes) -> None:
    homes.codex_file('[model_providers.x]\nname = "x"\n')
    entries = [entry.key for entry in load(homes.env).sources()]
    keys = {key.split(".")[0] for key in entries} - {"codex_home", "clew_home", "openai_api_key"}
    flags = [f"{key}=1" for key in keys - {"clew", "sandbox_workspace_write", "model_providers"}]
    flags += [f"{key}=1" for key in entries if key.startswith(("clew.", "sandbox_workspace_write."))]
    flags += [f"model_providers.x.{key}=1" for key in PROVIDER_KEYS]
    _, problems = examine(homes.env, overrides=flags, strict=True)
    assert [str(problem) for problem in problems if "is not known" in str(problem)] == []
