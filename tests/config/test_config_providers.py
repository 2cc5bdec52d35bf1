"""Providers: built-in and configured ones, and where their keys come from."""

from __future__ import annotations

import pytest
from config_homes import Homes

from clew.config import OPENAI_URL, Provider, load
from clew.errors import ConfigInvalid, KeyMissing, ProviderUnknown


def test_a_key_in_the_environment_suffices(homes: Homes) -> None:
    homes.env |= {"OPENAI_API_KEY": " sk-1 ", "OPENAI_BASE_URL": "http://proxy/v1/", "OPENAI_PROJECT": "p"}
    provider = load(homes.env).provider("openai")
    assert provider == Provider(
        id="openai",
        name="OpenAI",
        base_url="http://proxy/v1",
        env_key="OPENAI_API_KEY",
        bearer_token="sk-1",
        http_headers={"OpenAI-Project": "p"},
        requires_key=True,
    )
    provider.check_key()
    assert load(homes.env, overrides=["openai_base_url=http://flag/v1"]).provider("openai").base_url == "http://flag/v1"


def test_without_a_key_the_error_names_three_ways_out(homes: Homes) -> None:
    provider = load(homes.env).provider("openai")
    assert (provider.base_url, provider.bearer_token) == (OPENAI_URL, None)
    with pytest.raises(KeyMissing) as caught:
        provider.check_key()
    assert caught.value.explained() == (
        "no API key for the model provider openai: OPENAI_API_KEY is not set. Set OPENAI_API_KEY, or choose another "
        "provider with `model_provider` in config.toml, or try it without a key: `-c model_provider=offline`."
    )
    load(homes.env).provider("offline").check_key()


def test_codex_login_file_gives_the_key(homes: Homes) -> None:
    homes.codex_file('{"OPENAI_API_KEY": "sk-file", "tokens": null}', "auth.json")
    config = load(homes.env)
    assert config.provider("openai").bearer_token == "sk-file"
    assert {e.key: e.source for e in config.sources()}["openai_api_key"] == str(homes.codex / "auth.json")
    homes.env["OPENAI_API_KEY"] = "sk-env"
    assert load(homes.env).provider("openai").bearer_token == "sk-env"


def test_a_login_that_only_codex_can_use_and_a_broken_one_are_warned_about(homes: Homes) -> None:
    homes.codex_file(
        '{"OPENAI_API_KEY": null, "auth_mode": "chatgpt", "tokens": {"access_token": "secret"}}', "auth.json"
    )
    config = load(homes.env)
    assert config.provider("openai").bearer_token is None
    path = homes.codex / "auth.json"
    why = "holds a ChatGPT login, which only Codex itself can use; set OPENAI_API_KEY for clew."
    assert config.warnings == (f"{path} {why}",)
    homes.codex_file("{", "auth.json")
    assert load(homes.env).warnings == (
        f"{homes.codex / 'auth.json'} cannot be read as a login file; set OPENAI_API_KEY instead.",
    )


def test_a_configured_provider_is_read_whole(homes: Homes) -> None:
    homes.codex_file("""
model_provider = "azure"
[model_providers.azure]
name = "Azure"
base_url = "https://a.example/openai/"
wire_api = "responses"
env_key = "AZURE_KEY"
env_key_instructions = "Ask Ann."
http_headers = { "X-A" = "1" }
env_http_headers = { "X-B" = "B_VALUE", "X-C" = "UNSET" }
query_params = { api-version = "2026-01-01" }
request_max_retries = 0
stream_max_retries = 1000
stream_idle_timeout_ms = 1000
""")
    homes.env |= {"AZURE_KEY": "k", "B_VALUE": "2", "OPENAI_API_KEY": "sk-other"}
    config = load(homes.env)
    assert config.provider(config.settings("/w").provider) == Provider(
        id="azure",
        name="Azure",
        base_url="https://a.example/openai",
        env_key="AZURE_KEY",
        env_key_instructions="Ask Ann.",
        bearer_token="k",
        http_headers={"X-A": "1", "X-B": "2"},
        env_http_headers={"X-B": "B_VALUE", "X-C": "UNSET"},
        query_params={"api-version": "2026-01-01"},
        requires_key=True,
        request_max_retries=0,
        stream_max_retries=100,
        stream_idle_timeout_ms=1000,
    )
    del homes.env["AZURE_KEY"]
    with pytest.raises(KeyMissing) as caught:
        load(homes.env).provider("azure").check_key()
    assert caught.value.hint.startswith("Ask Ann. Set AZURE_KEY, or ")


def test_a_local_endpoint_needs_no_key_and_gets_none(homes: Homes) -> None:
    homes.env["OPENAI_API_KEY"] = "sk-1"
    homes.codex_file('[model_providers.mock]\nbase_url = "http://127.0.0.1:1/v1"\nrequires_openai_auth = false\n')
    provider = load(homes.env).provider("mock")
    assert provider == Provider(id="mock", name="mock", base_url="http://127.0.0.1:1/v1")
    provider.check_key()


def test_a_provider_may_ask_for_the_openai_key_or_carry_its_own(homes: Homes) -> None:
    homes.env["OPENAI_API_KEY"] = "sk-1"
    homes.codex_file(
        '[model_providers.proxy]\nbase_url = "http://p/v1"\nrequires_openai_auth = true\n'
        '[model_providers.own]\nbase_url = "http://o/v1"\nexperimental_bearer_token = "tok"\n'
    )
    config = load(homes.env)
    assert config.provider("proxy").bearer_token == "sk-1"
    assert config.provider("proxy").env_key == "OPENAI_API_KEY"
    assert config.provider("own").bearer_token == "tok"
    assert config.provider("own").requires_key is False
    assert "tok" not in repr(config.provider("own"))


def test_an_old_wire_format_is_refused_only_where_it_is_used(homes: Homes) -> None:
    path = homes.codex_file('[model_providers.old]\nbase_url = "http://o/v1"\nwire_api = "chat"\n')
    config = load(homes.env)
    assert config.settings("/w").provider == "openai"
    with pytest.raises(ConfigInvalid) as caught:
        config.settings("/w", {"config": {"model_provider": "old"}})
    assert str(caught.value) == (
        f"{path}:3: unknown variant `chat`, expected `responses` (no other wire format is spoken) "
        "in `model_providers.old.wire_api`"
    )


def test_an_unknown_provider_names_the_known_ones(homes: Homes) -> None:
    with pytest.raises(ProviderUnknown) as caught:
        load(homes.env).provider("nope")
    assert caught.value.message == "Model provider `nope` not found"
    assert "Configured are: lmstudio, offline, ollama, openai." in caught.value.hint


def test_secrets_of_the_wrong_type_are_not_shown(homes: Homes) -> None:
    path = homes.codex_file('[model_providers.x]\nexperimental_bearer_token = 12345\nbase_url = "u:pw@h"\n')
    with pytest.raises(ConfigInvalid) as caught:
        load(homes.env)
    why = "invalid value: an address with a password, expected an http or https address"
    assert str(caught.value) == f"{path}:3: {why} in `model_providers.x.base_url`"
    homes.codex_file("[model_providers.x]\nexperimental_bearer_token = 12345\n")
    with pytest.raises(ConfigInvalid) as caught:
        load(homes.env)
    assert str(caught.value) == (
        f"{path}:2: invalid type: integer, expected a string in `model_providers.x.experimental_bearer_token`"
    )


def test_the_offline_provider_cannot_be_redefined(homes: Homes) -> None:
    path = homes.codex_file('[model_providers.offline]\nbase_url = "http://x"\n')
    with pytest.raises(ConfigInvalid, match=f"^{path}:1: the provider `offline` is built in"):
        load(homes.env)


def test_a_wrong_base_url_in_the_environment_is_named_by_its_variable(homes: Homes) -> None:
    homes.env["OPENAI_BASE_URL"] = "localhost"
    with pytest.raises(ConfigInvalid, match=r"^OPENAI_BASE_URL: invalid value: 'localhost'"):
        load(homes.env)


def test_variables_that_hold_provider_keys_are_known_by_name(homes: Homes) -> None:
    homes.codex_file(
        '[model_providers.mine]\nbase_url = "http://127.0.0.1:9/v1"\nenv_key = "MINE_KEY"\n'
        'env_http_headers = { "X-Team" = "TEAM_SECRET" }\n'
    )
    assert load(homes.env).key_variables >= {"OPENAI_API_KEY", "CODEX_API_KEY", "MINE_KEY", "TEAM_SECRET"}
