from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from clew.history import ContextItem, TruncationPolicy, normalised, open_calls


def call(call_id: str, **members: Any) -> dict[str, Any]:
    return {"type": "function_call", "name": "f", "arguments": "{}", "call_id": call_id, **members}


def output(call_id: str, text: Any = "ok", **members: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": text, **members}


def sent(*items: dict[str, Any], openai: bool = False, **options: Any) -> list[dict[str, Any]]:
    return normalised([ContextItem.of(item) for item in items], openai=openai, **options)


def test_an_open_call_is_answered_directly_behind_it_with_a_stable_id() -> None:
    answer = {
        "type": "function_call_output",
        "call_id": "a",
        "id": "fco_d08ee114-ed5d-5706-8dbd-16ccacd40aa4",
        "output": "aborted",
    }

    assert sent(call("a", id="fc_1"), call("b"), output("b")) == [call("a", id="fc_1"), answer, call("b"), output("b")]


def test_each_kind_of_call_gets_its_own_kind_of_output() -> None:
    custom = {"type": "custom_tool_call", "name": "p", "input": "x", "call_id": "c"}
    shell: dict[str, Any] = {"type": "local_shell_call", "call_id": "s", "status": "completed", "action": {}}
    nameless: dict[str, Any] = {"type": "local_shell_call", "status": "completed", "action": {}}
    search: dict[str, Any] = {"type": "tool_search_call", "call_id": "t", "execution": "client", "arguments": {}}

    assert sent(custom, shell, nameless, search) == [
        custom,
        {"type": "custom_tool_call_output", "call_id": "c", "output": "aborted"},
        shell,
        {"type": "function_call_output", "call_id": "s", "output": "aborted"},
        nameless,
        search,
        {"type": "tool_search_output", "call_id": "t", "status": "completed", "execution": "client", "tools": []},
    ]


def test_an_output_without_its_call_is_left_out() -> None:
    by_server = {"type": "tool_search_output", "call_id": None, "execution": "server", "status": "completed"}
    by_client = {"type": "tool_search_output", "call_id": "x", "execution": "client", "status": "completed"}
    wrong_kind = {"type": "custom_tool_call_output", "call_id": "a", "output": "x"}

    assert sent(output("z"), by_server, by_client, call("a"), wrong_kind, output("a")) == [
        by_server,
        call("a"),
        output("a"),
    ]


def test_outputs_come_in_the_order_of_their_calls() -> None:
    note: dict[str, Any] = {"type": "message", "role": "user", "content": []}

    assert sent(call("a"), call("b"), call("c"), output("c", "3"), note, output("a", "1"), output("b", "2")) == [
        call("a"),
        call("b"),
        call("c"),
        output("a", "1"),
        note,
        output("b", "2"),
        output("c", "3"),
    ]


def test_an_output_that_was_recorded_before_its_call_moves_behind_it() -> None:
    assert sent(output("a"), call("a"), call("b"), output("b")) == [call("a"), output("a"), call("b"), output("b")]


def test_an_id_that_was_used_twice_keeps_both_outputs() -> None:
    assert sent(call("a"), call("a"), output("a", "1"), output("a", "2")) == [
        call("a"),
        call("a"),
        output("a", "1"),
        output("a", "2"),
    ]


def test_private_members_go_to_openai_alone() -> None:
    item: dict[str, Any] = {
        "type": "message",
        "role": "user",
        "id": None,
        "content": [],
        "metadata": {"a": 1},
        "internal_chat_message_metadata_passthrough": {"turn_id": "t"},
    }
    bare: dict[str, Any] = {"type": "message", "role": "user", "content": []}

    assert sent(item) == [bare]
    assert sent(item, openai=True) == [{key: value for key, value in item.items() if key != "id"}]


def test_what_no_endpoint_knows_is_left_out_of_the_request() -> None:
    assert sent({"type": "hologram"}, {"type": "compaction_summary", "encrypted_content": "x"}) == [
        {"type": "compaction", "encrypted_content": "x"}
    ]


def test_images_are_named_for_models_that_cannot_see() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA"}
    text = {"type": "input_text", "text": "look"}
    told = {"type": "input_text", "text": "image content omitted because you do not support image input"}
    message: dict[str, Any] = {"type": "message", "role": "user", "content": [text, image]}

    assert sent(message, images=False) == [{**message, "content": [text, told]}]
    assert sent(call("a"), output("a", [image]), images=False)[1] == output("a", [told])
    assert sent(message) == [message]


def test_long_outputs_are_cut_to_the_models_policy() -> None:
    long = sent(call("a"), output("a", "x" * 100), policy=TruncationPolicy("bytes", 10))

    assert long[1]["output"] == "xxxxxx…88 chars truncated…xxxxxx"


def test_open_calls_are_those_without_output() -> None:
    items = [ContextItem.of(item) for item in (call("a"), call("b"), output("a"), output("z"))]

    assert [item.call_id for item in open_calls(items)] == ["b"]


def test_members_of_a_wrong_type_cost_only_themselves() -> None:
    assert ContextItem.read(b'{"type":"message","role":5,"id":"m"}') == ContextItem(
        b'{"type":"message","role":5,"id":"m"}', "message", None, None, "m"
    )
    assert ContextItem.read(b'{"type":7}') is None
    assert ContextItem.read(b'{"no":"type"}') is None


_IDS = st.sampled_from("abcd")
_THOUGHT: dict[str, Any] = {"type": "reasoning", "summary": []}
_ITEMS = st.one_of(st.builds(call, _IDS), st.builds(output, _IDS), st.just(_THOUGHT))


@given(st.lists(_ITEMS, max_size=14))
def test_every_call_is_answered_behind_it_and_every_output_has_its_call(items: list[dict[str, Any]]) -> None:
    request = sent(*items)

    called: set[str] = set()
    for item in request:
        if item["type"] == "function_call":
            called.add(item["call_id"])
        elif item["type"] == "function_call_output":
            assert item["call_id"] in called
    answered = {item["call_id"] for item in request if item["type"] == "function_call_output"}
    assert answered == called
    assert [item for item in request if item["type"] != "function_call_output"] == [
        item for item in items if item["type"] != "function_call_output"
    ]
