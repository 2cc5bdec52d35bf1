"""Small records made smaller: each is packed alone, against a dictionary of what such records look like."""

from __future__ import annotations

import zstandard

__all__ = ["Packing"]

LEVEL = 3

_ID = b"01a18a0d-e394-7873-b965-3e26d4e54c1a"
# What comes last is the cheapest to point at. Only the shape matters: names of members, fixed words, and the values
# that most threads have. Changing a byte of it makes what was packed before unreadable: raise `SCHEMA_VERSION`.
_DICTIONARY = b"".join(
    (
        b" please can you make sure that the this is in of and to for with add fix update remove refactor test tests",
        b" function file class module error when it a not why does how implement change build run code use should",
        b"\xc0\xc0\xc3\xc0\xc0\xc3\x9a\x01\x91\xce\x90\xc2\xc0\xc2\xc2\xc2\xc3\xc2\xc3\xc2\xc0\x90\xdc\x00\x12\xd9$",
        b"\xc2\xc2\xc2\xc2\xcf\x87\xabtool_output\xce\x00\x01\xaatool_calls\xcd\xa8messages\xcd\xa9reasoning\xcd",
        b"\xa7context\xcd\xa6events\xcd\xabbookkeeping\xcd\xda\x01\xf0",
        b"\xc3\x03\x01\x02\x96\xce\x00\x00\x00x\x00\xcd\x97\xcf\xce\xc3\x03\x01\x02\x96\xcd\x00\x00x\x00\xcd",
        b"\xc0\xc0\xb82026-11-14T23:19:09.985Z\xad/home/user/\xaccodex_cli_rs\xa70.142.3\xa6openai\xc0\xa6legacy",
        b"\xa9paginated\xc0\xc0\xc0\xa4main\xa6master\xd9(",
        b"\x92\xdc\x00\x1a\xd9$" + _ID + b"\xcd\x0b\x00\xc0\xc0\xa5gpt-5\xcf\x00\x00\x01\xa1",
        b"\xa3cli\xa4exec\xa6vscode\xa8subagent\xa3mcp\xa6openai\xa5gpt-5\xabgpt-5-codex\xa70.142.3\xa4main\xa6master",
        b"\xbfhttps://github.com/\xd9!git@github.com:.git\xa6legacy\xa9paginated\xc0\xc0\x01\x90\xc2\xc0\x90\xc0",
        b"\xdc\x00\x19\xd9$" + _ID + b"\xd9j/home/user/.codex/archived_sessions/sessions/2026/10/29/rollout-2026-",
        b"10-29T23-45-28-" + _ID + b".jsonl\xc2\xb82026-10-29T23:45:28.000Z\xb82026-10-29T23:46:16.108Z\xce\x00\x01",
        b"\xb82026-10-29T23:45:15.389Z\xc0\xda\x01",
    )
)


class Packing:
    """Packs and unpacks records. For one thread at a time."""

    def __init__(self) -> None:
        dictionary = zstandard.ZstdCompressionDict(_DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, dict_data=dictionary)
        self._decompressor = zstandard.ZstdDecompressor(dict_data=dictionary)

    def pack(self, record: bytes) -> bytes:
        return self._compressor.compress(record)

    def unpack(self, packed: bytes) -> bytes:
        """Raises `ValueError` for what is none."""
        try:
            return self._decompressor.decompress(packed)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error
