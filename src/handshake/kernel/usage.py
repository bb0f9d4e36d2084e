"""Usage: the tokens of a model call, as its provider reported them."""

from __future__ import annotations

import msgspec


class TokenUsage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one call; a figure that the provider did not report is None, never 0.

    Source:
        provider.usage.missing_is_null.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
