"""Planted secrets and content are looked for in everything that a workspace keeps besides its artifacts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import apsw
import pytest

from handshake.bootstrap import init_workspace
from handshake.gate.egress import Finished, ModelFault, TextPiece, ThreadMessage, ToolSchema
from handshake.kernel.errors import InvalidEvent
from handshake.kernel.ids import ModelId, ProviderId
from handshake.kernel.job import Backend
from handshake.kernel.retry import Fault, FaultKind
from handshake.ports.model import EgressPass, ModelCall
from handshake.workspace import open_workspace
from tests.requirement import requirement

SECRET = "sk-planted-0123456789abcdef"
CONTENT = "the planted question about walruses"
ANSWER = "the planted answer about narwhals"
PROVIDER_BODY = b"upstream said: walrus overload, key " + SECRET.encode()


class Talking:
    """A model that answers, and fails with a telling body when it is asked to."""

    async def backend(self, model_id: ModelId) -> Backend:
        return Backend.LOCAL

    def render(
        self,
        model_id: ModelId,
        thread: Sequence[ThreadMessage],
        *,
        max_output_tokens: int | None,
        tools: Sequence[ToolSchema] = (),
    ) -> bytes:
        return b" ".join(message.text.encode() for message in thread)

    async def answer(self, egress_pass: EgressPass, call: ModelCall) -> AsyncGenerator[TextPiece | Finished, None]:
        egress_pass.spend()
        if b"fail" in call.body:
            raise ModelFault(Fault(FaultKind.STATUS, status=400, sent=True), PROVIDER_BODY)
        yield TextPiece(ANSWER)
        yield Finished("stop", None)

    async def close(self) -> None:
        return None


def _workspace(folder: Path) -> Path:
    place = init_workspace(folder)
    place.config.write_text(
        '[providers.x]\ndialects = ["openai_chat"]\nbase_url = "http://127.0.0.1:1/v1"\ncredential = "env:PLANTED"\n'
    )
    return place.database


@requirement("message.content.only_in_artifacts", "provider.error.not_echoed")
async def test_secrets_and_content_stand_in_artifacts_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", SECRET)
    database = _workspace(tmp_path)
    async with open_workspace(tmp_path, models={ProviderId("x"): Talking()}) as hs:
        session = await hs.sessions.create(
            role="coder", model=f"x/model {SECRET}", memory_policy="EPHEMERAL", wp=f"packet {SECRET}"
        )
        assert (await (await session.send(CONTENT)).result()).text == ANSWER
        failed = await (await session.send(f"please fail, {CONTENT}")).result()
        assert failed.error_code == "HSK-502-PROVIDER"
        await session.cancel()
    db = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    bodies = [body for (body,) in db.execute("SELECT body FROM event")]
    assert len(bodies) > 10
    for body in bodies:
        assert SECRET.encode() not in body
    assert sum(b"[REDACTED:secrets]" in body for body in bodies) > 5
    for table in ("event", "job", "session", "message", "job_artifact", "declaration"):
        for row in db.execute(f"SELECT * FROM {table}"):
            text = repr(row)
            assert "walrus" not in text, table
            assert "narwhal" not in text, table
    kept = [data for (data,) in db.execute("SELECT data FROM artifact")]
    assert {CONTENT.encode(), ANSWER.encode()} <= set(kept)


async def test_a_secret_that_looks_like_an_id_refuses_the_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED", "01a1f8c4-59d0-7132-9fba-1532a3211e10")
    _workspace(tmp_path)
    async with open_workspace(tmp_path, models={ProviderId("x"): Talking()}) as hs:
        with pytest.raises(InvalidEvent):
            await hs.sessions.create(
                role="coder",
                model="x/model",
                memory_policy="EPHEMERAL",
                session_id="01a1f8c4-59d0-7132-9fba-1532a3211e10",
            )
        assert await hs.sessions.list() == []
