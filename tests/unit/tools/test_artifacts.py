from __future__ import annotations

import base64
import hashlib
import os
from typing import Any

import msgspec
import pytest

from handshake.kernel.ids import ArtifactId, SessionId
from handshake.kernel.settings import MAX_INLINE_PAYLOAD_BYTES
from handshake.kernel.tools.artifacts import DEFINITIONS
from handshake.ports.tool import Reach, ToolFailed, ToolResult
from handshake.tools.artifacts import ArtifactTool
from tests.requirement import requirement
from tests.unit.tools.one_call import SESSION, called, context

(DEFINITION,) = DEFINITIONS


def known(data: bytes) -> tuple[ArtifactTool, str]:
    artifact_id = hashlib.sha256(data).hexdigest()

    async def own(session_id: SessionId, wanted: ArtifactId) -> bytes | None:
        return data if (session_id, wanted) == (SESSION, artifact_id) else None

    return ArtifactTool(own), artifact_id


async def get(data: bytes, *, max_result_bytes: int = 256 * 1024, **args: Any) -> ToolResult:
    tool, artifact_id = known(data)
    within = context("/", Reach(), max_result_bytes=max_result_bytes)
    return await called(tool, DEFINITION, {"artifact_id": artifact_id, **args}, within)


async def whole(data: bytes, encoding: str, limit: int) -> bytes:
    """Return an artifact as it is read part by part; each part fits into an envelope."""
    got, offset = b"", 0
    for _ in range(1_000):
        value = (await get(data, max_result_bytes=limit, encoding=encoding, offset_bytes=offset)).value
        assert len(msgspec.json.encode(value)) <= min(limit, MAX_INLINE_PAYLOAD_BYTES)
        got += base64.b64decode(value["content"]) if encoding == "base64" else value["content"].encode()
        if "next_offset_bytes" not in value:
            break
        offset = value["next_offset_bytes"]
    return got


@pytest.mark.parametrize("limit", [4_096, 256 * 1024])
async def test_parts_put_together_are_the_artifact(limit: int) -> None:
    for text in ("", "short", "ä€\U0001f600" * 9_000, "\x01\n" * 30_000, "word " * 20_000):
        assert await whole(text.encode(), "utf-8", limit) == text.encode()
    data = os.urandom(100_000)
    assert await whole(data, "base64", limit) == data


async def test_a_part_tells_where_it_is() -> None:
    assert (await get(b"abcdef", offset_bytes=4)).value == {
        "artifact_id": hashlib.sha256(b"abcdef").hexdigest(),
        "content": "ef",
        "encoding": "utf-8",
        "size_bytes": 6,
        "offset_bytes": 4,
    }
    assert (await get(b"abcdef", offset_bytes=99)).value["content"] == ""


async def test_what_is_no_text_is_read_as_bytes() -> None:
    for data in (b"\xff\xfe", "ä".encode()[:1], b"text\xfftext", b"\x80" * 9):
        with pytest.raises(ToolFailed) as refused:
            await get(data)
        assert refused.value.code == "HSK-400-INVALID-REQUEST"


@requirement("capability.artifact.by_reference_only")
async def test_what_no_row_refers_to_is_not_there_and_nothing_comes_trusted() -> None:
    tool, _ = known(b"mine")
    with pytest.raises(ToolFailed) as refused:
        await called(tool, DEFINITION, {"artifact_id": "0" * 64}, context("/", Reach()))
    assert refused.value.code == "HSK-404-NOT-FOUND"
    result = await get(b"mine")
    assert not result.is_trusted
    assert result.touched.artifacts == (hashlib.sha256(b"mine").hexdigest(),)
