"""Mailbox pace: how fast a role may send and how much may wait for one; beyond that it is told when to come back.

One number is kept of each role: the moment at which all that it sent would have been sent at its rate. A message is
admitted while that moment is less than a burst ahead, so in every window at most burst + rate x window are sent.

Source:
    mailbox.backpressure.refuses (04 §6).
"""

from __future__ import annotations

import msgspec

from handshake.kernel.settings import (
    MAILBOX_BURST_MESSAGES,
    MAILBOX_FULL_RETRY_MS,
    MAILBOX_MESSAGES_PER_S,
    MAX_MAILBOX_WAITING_MESSAGES,
)
from handshake.kernel.units import US_PER_MS, US_PER_S

STEP_US = US_PER_S // MAILBOX_MESSAGES_PER_S
"""Time that one message takes at the rate: a whole number of microseconds."""
AHEAD_US = (MAILBOX_BURST_MESSAGES - 1) * STEP_US
"""How far ahead of its rate a role may be before it sends one more."""


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Not now: why, as a token, and when to come back."""

    reason: str
    retry_after_ms: int


def admit(sent_until_us: int, most_waiting: int, *, now_us: int) -> int | Refusal:
    """Admit one message, or say when to come back.

    Args:
        sent_until_us: what is kept of the sending role; 0 of one that has sent nothing.
        most_waiting: messages that wait for the receiving role that has most.
        now_us: microseconds since 1970.

    Returns:
        What is kept of the sending role from now on, or the refusal, which changes nothing.
    """
    if most_waiting >= MAX_MAILBOX_WAITING_MESSAGES:
        return Refusal("mailbox_full", MAILBOX_FULL_RETRY_MS)
    early_us = sent_until_us - AHEAD_US - now_us
    if early_us > 0:
        return Refusal("mailbox_pace", -(-early_us // US_PER_MS))
    return max(sent_until_us, now_us) + STEP_US
