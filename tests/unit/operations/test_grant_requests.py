"""Tests of grant requests: what a person can say of a grant, and that nothing else is taken for it."""

from __future__ import annotations

import pytest

from handshake.kernel.approval import lasting
from handshake.kernel.errors import InvalidRequest
from handshake.kernel.grant import Constraints, Use
from handshake.operations.grant_requests import wanted


@pytest.mark.parametrize(
    "request_", [
        "{", '{"capability": 1}', '{"capability": "fs.read", "more": 1}', '{"capability": "fs.read", "max_uses": -1}',
        '{"capability": "fs.read", "args": {"to": 1}}', '{"capability": "fs.read", "args": {"/~": 1}}',
        '{"capability": "fs.read", "args": {"/a": {"glob": 1}}}', '{"capability": "fs.read", "use": "always"}',
        '{"capability": "fs.read", "args": {"/a": {"one_of": 1}}}', "fs.read:" + "a" * 10_000,
    ],
)  # fmt: skip
def test_a_malformed_request_is_refused(request_: str) -> None:
    with pytest.raises(InvalidRequest):
        wanted([request_])


def test_a_request_as_json_says_all_that_a_grant_can() -> None:
    text = '{"capability": "fs.write:src", "use": "ask", "delegable": false, "args": {"/a": 1}, "max_uses": 2}'
    (one,) = wanted([text])
    assert (str(one.capability), one.use, one.delegable) == ("fs.write:src/**", Use.ASK, False)
    assert one.constraints == Constraints(args=one.constraints.args, max_uses=2)
    assert "/a" in one.constraints.fixed


@pytest.mark.parametrize("words", ["", "always", "forever", "-1h", "0s", "9999d", "1 h"])
def test_what_is_no_lifetime_is_refused(words: str) -> None:
    with pytest.raises(InvalidRequest):
        lasting(words, now_us=1)
