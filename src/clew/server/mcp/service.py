"""The MCP server of one connection: which methods there are, and which function answers which tool."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import mcp_types as types
from mcp.server.context import CallNext, HandlerResult
from mcp.server.lowlevel.server import Server
from mcp.shared.exceptions import MCPError

from clew.errors import ClewError
from clew.server.mcp import catalog, resources, turns
from clew.server.mcp.desk import Call, Context, Desk
from clew.server.mcp.errors import Refused, error_result, explain, result
from clew.server.mcp.schemas import INSTRUCTIONS, tool_list

__all__ = ["build_server"]

_log = logging.getLogger(__name__)

_Tool = Callable[[Call], Awaitable[turns.Answer]]

_TOOLS: Mapping[str, _Tool] = {
    "codex": turns.codex,
    "codex-reply": turns.codex_reply,
    "thread_wait": turns.thread_wait,
    "threads_list": catalog.threads_list,
    "threads_search": catalog.threads_search,
    "thread_read": catalog.thread_read,
    "thread_fork": catalog.thread_fork,
    "thread_rename": catalog.thread_rename,
    "thread_archive": catalog.thread_archive,
    "thread_unarchive": catalog.thread_unarchive,
    "thread_status": catalog.thread_status,
    "thread_interrupt": catalog.thread_interrupt,
}


def build_server(desk: Desk, *, version: str) -> Server[Any]:
    """The library's server with our answers."""

    async def list_tools(context: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=tool_list())

    async def call_tool(context: Context, params: types.CallToolRequestParams) -> turns.Answer:
        tool = _TOOLS.get(params.name)
        if tool is None:
            return result(f"Unknown tool '{params.name}'", error=True)
        call = Call(desk, context, params.name, params.arguments, dict(context.params or {}))
        return await _answered(tool, call)

    async def list_resources(
        context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        try:
            return await resources.list_resources(desk, params.cursor if params else None)
        except ClewError as error:
            raise MCPError(code=types.INVALID_PARAMS, message=explain(error)) from error

    async def list_templates(
        context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        return resources.list_templates()

    async def read_resource(context: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        return await resources.read_resource(desk, context, params.uri)

    server = Server[Any](
        "clew",
        title="clew",
        version=version,
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
    )
    # In place of the library's tracing, which nothing here listens to.
    server.middleware = [_as_ever]
    return server


async def _answered(tool: _Tool, call: Call) -> turns.Answer:
    """The tool's answer; whatever goes wrong in it becomes an answer too."""
    try:
        return await tool(call)
    except Refused as refused:
        return result(refused.text, thread_id=refused.thread_id, error=True)
    except ClewError as error:
        return error_result(error)
    except MCPError:
        raise
    except Exception as error:
        _log.exception("the tool %s failed", call.tool)
        return result(f"Internal error in {call.tool}: {type(error).__name__}; the server's log has more.", error=True)


async def _as_ever(ctx: Context, call_next: CallNext) -> HandlerResult:
    """What the older server did differently from the library: it refused a second handshake, which would change the
    client under running calls, and left `isError` out where nothing failed."""
    if ctx.method == "initialize" and ctx.session.client_params is not None:
        raise MCPError(code=types.INVALID_REQUEST, message="initialize called more than once")
    answer = await call_next(ctx)
    if ctx.method == "tools/call" and isinstance(answer, dict) and answer.get("isError") is False:
        del answer["isError"]
    return answer
