"""Recorded events: reads the canonical bytes of the log back, and takes only bytes that sealing could have written.

Source:
    recorder.log.verifies (06 §1).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol, cast

import msgspec
from msgspec.structs import fields

from handshake.kernel.catalogue import registry
from handshake.kernel.errors import InvalidEvent
from handshake.kernel.event import EventType, Payload, Place, Tail, is_one_line


class Recorded(Protocol):
    """An event as its bytes tell it; parts of the envelope that it lacks are None."""

    payload: Payload
    prev_hash: str
    seq: int
    timestamp: str
    type: str
    model_session_id: str | None
    job_id: str | None
