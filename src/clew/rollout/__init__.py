"""Bytes of rollouts: names, lines, reading both ways, appending with its durability rules, compression and locks."""

from clew.rollout.chain import (
    HISTORY_MODES,
    Base,
    Head,
    Lineage,
    Link,
    lineage,
    parse_head,
    read_head,
    read_thread,
    read_thread_back,
)
from clew.rollout.commit import GroupCommitter
from clew.rollout.envelope import Line, Record, Skipped, decode_line, encode_line, freeze_line, payload_kind, peek_type
from clew.rollout.failpoints import FailPoints
from clew.rollout.filesystem import Entry, File, FileIdentity, FileStat, FileSystem, RealFileSystem, lock_within
from clew.rollout.frames import FrameSource, materialise
from clew.rollout.framing import SeekTable, read_table
from clew.rollout.layout import Home, RolloutFile, ThreadFiles
from clew.rollout.locks import WriterLock, acquire_waiting, clear_lock, lock_holder, lock_state
from clew.rollout.name_index import NameIndex, NameRow, SavedSession, read_saved_sessions
from clew.rollout.names import RolloutName, canonical_id
from clew.rollout.offsets import Mark, ThreadLog
from clew.rollout.owners import OwnerRecord, Standing, read_record
from clew.rollout.packing import Packed, pack, pack_bytes
from clew.rollout.scan import scan_back, scan_forward
from clew.rollout.source import ByteSource, MemorySource, open_source
from clew.rollout.waiting import Place, Waiting, WaitingLine
from clew.rollout.writer import LogWriter

__all__ = [
    "HISTORY_MODES",
    "Base",
    "ByteSource",
    "Entry",
    "FailPoints",
    "File",
    "FileIdentity",
    "FileStat",
    "FileSystem",
    "FrameSource",
    "GroupCommitter",
    "Head",
    "Home",
    "Line",
    "Lineage",
    "Link",
    "LogWriter",
    "Mark",
    "MemorySource",
    "NameIndex",
    "NameRow",
    "OwnerRecord",
    "Packed",
    "Place",
    "RealFileSystem",
    "Record",
    "RolloutFile",
    "RolloutName",
    "SavedSession",
    "SeekTable",
    "Skipped",
    "Standing",
    "ThreadFiles",
    "ThreadLog",
    "Waiting",
    "WaitingLine",
    "WriterLock",
    "acquire_waiting",
    "canonical_id",
    "clear_lock",
    "decode_line",
    "encode_line",
    "freeze_line",
    "lineage",
    "lock_holder",
    "lock_state",
    "lock_within",
    "materialise",
    "open_source",
    "pack",
    "pack_bytes",
    "parse_head",
    "payload_kind",
    "peek_type",
    "read_head",
    "read_record",
    "read_saved_sessions",
    "read_table",
    "read_thread",
    "read_thread_back",
    "scan_back",
    "scan_forward",
]
