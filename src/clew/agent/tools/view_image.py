"""`view_image`: show the model a picture from the disk."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, Literal

import anyio.to_thread
import msgspec

from clew.agent.tools.contracts import Finished, ToolCall, ToolContext, ToolFailed, ToolOutcome, parse_arguments
from clew.events import Item, ItemCompleted, ItemStarted

__all__ = ["ViewImage", "image_type"]

_LARGEST = 20 * 1024 * 1024


class _Arguments(msgspec.Struct, frozen=True):
    path: str


class ViewImage:
    """PNG, JPEG, GIF and WebP files up to 20 MiB, sent as they are."""

    name = "view_image"
    kinds: frozenset[Literal["function", "custom"]] = frozenset({"function"})
    parallel = True

    def spec(self) -> dict[str, Any]:
        return {
            "type": "function",
            "name": self.name,
            "description": "Look at an image file on this machine that the conversation does not show yet.",
            "strict": False,
            "parameters": {
                "type": "object",
                "properties": {"path": {"type": "string", "description": "Path of the image file."}},
                "required": ["path"],
                "additionalProperties": False,
            },
        }

    async def run(self, call: ToolCall, ctx: ToolContext) -> ToolOutcome:
        if not ctx.images:
            raise ToolFailed("view_image is not allowed because you do not support image inputs")
        path = Path(ctx.settings.cwd, parse_arguments(call.arguments, _Arguments).path)
        url = await anyio.to_thread.run_sync(_data_url, path)
        now = int(ctx.clock.now() * 1000)
        item = Item(id=call.call_id, type="imageView", fields={"path": str(path)})
        await ctx.emit(ItemStarted(ctx.turn_id, item))
        await ctx.emit(ItemCompleted(ctx.turn_id, item))
        finished = Finished(
            turn_id=ctx.turn_id,
            item=item,
            recorded={"type": "ImageView", "id": call.call_id, "path": path.as_uri()},
            started_at_ms=now,
            completed_at_ms=now,
        )
        output = [{"type": "input_image", "image_url": url, "detail": "high"}]
        return ToolOutcome(output=output, success=True, finished=finished)


def _data_url(path: Path) -> str:
    try:
        if not path.stat() or not path.is_file():
            raise ToolFailed(f"image path `{path}` is not a file")
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        why = f"{error.strerror} (os error {error.errno})"
        raise ToolFailed(f"unable to locate image at `{path}`: {why}") from error
    if len(data) > _LARGEST:
        raise ToolFailed(f"unable to process image: larger than {_LARGEST} bytes")
    kind = image_type(data)
    if kind is None:
        raise ToolFailed("unable to process image: invalid or unsupported image data")
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def image_type(data: bytes) -> str | None:
    """The media type the first bytes tell, None when they are no picture we know."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    return None
