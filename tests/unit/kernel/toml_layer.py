"""Layers as tests write them: from TOML text, and what a refusal looks like."""

from __future__ import annotations

import tomllib
from decimal import Decimal

import pytest

from handshake.kernel.configuration import Configuration, resolve
from handshake.kernel.errors import InvalidConfig
from handshake.kernel.layer import Layer, LayerName

SECRET = "sk-abcdefghijklmnop"
"""Stands in values that no error may show."""
OLLAMA = '[providers.ollama]\ndialects = ["openai_chat"]\nbase_url = "http://127.0.0.1:11434/v1"\n'


def toml_layer(text: str, name: LayerName = LayerName.USER) -> Layer:
    """Return the layer that a file with this text is."""
    return Layer(name, tomllib.loads(text, parse_float=Decimal))


def configured(user: str, workspace: str = "") -> Configuration:
    """Return what two files give."""
    return resolve([toml_layer(user), toml_layer(workspace, LayerName.WORKSPACE)])


def refusal(*layers: Layer) -> InvalidConfig:
    """Return the error that the layers give; it shows no secret."""
    with pytest.raises(InvalidConfig) as caught:
        resolve(layers)
    assert SECRET not in str(caught.value) + caught.value.hint
    return caught.value
