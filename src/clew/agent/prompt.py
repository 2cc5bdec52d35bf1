"""A turn's input as the content of a user message."""

from __future__ import annotations

import base64
import mimetypes
from pathlib import Path
from typing import Any

from clew.errors import BadRequest
from clew.events import TurnInput

__all__ = ["user_content"]

_LARGEST_IMAGE = 20 * 1024 * 1024


def user_content(turn: TurnInput) -> list[dict[str, Any]]:
    """The parts of the message: text, then images. Reads local image files; blocking.

    Raises `BadRequest` for a file that is not there, is no image, or is larger than 20 MiB.
    """
    content: list[dict[str, Any]] = [{"type": "input_text", "text": turn.text}]
    content += [{"type": "input_image", "image_url": url} for url in turn.images]
    for number, name in enumerate(turn.local_images, 1):
        content += [
            {"type": "input_text", "text": f'<image name=[Image #{number}] path="{name}">'},
            {"type": "input_image", "image_url": _data_url(Path(name))},
            {"type": "input_text", "text": "</image>"},
        ]
    return content


def _data_url(path: Path) -> str:
    kind, _ = mimetypes.guess_type(path.name)
    if kind is None or not kind.startswith("image/"):
        raise BadRequest("images", f"{path} is not an image (by its name)")
    try:
        if path.stat().st_size > _LARGEST_IMAGE:
            raise BadRequest("images", f"{path} is larger than 20 MiB")
        data = path.read_bytes()
    except OSError as error:
        raise BadRequest("images", f"{path}: {error.strerror}") from error
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
