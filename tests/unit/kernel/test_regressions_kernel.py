"""Spellings of one model that Ollama takes for the same, from what was once taken for another."""

from __future__ import annotations

import json

import pytest

from handshake.kernel.locality import Listing, read_listing

LISTING = json.dumps({"models": [{"name": "mine:latest", "remote_host": "https://ollama.com:443", "size": 1}]}).encode()


@pytest.mark.parametrize("scheme", ["https://", "http://", "any://"])
@pytest.mark.parametrize("model", ["registry.ollama.ai/library/mine", "registry.ollama.ai/library/MINE:latest"])
def test_a_scheme_does_not_hide_a_model_that_runs_elsewhere(scheme: str, model: str) -> None:
    assert read_listing(LISTING, scheme + model) is Listing.REMOTE
