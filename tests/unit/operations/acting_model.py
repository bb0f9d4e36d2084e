"""Acting model: a model that does what the test says once it was asked, and what its attempts left."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

from handshake.gate.egress import CallLimits, Finished, TextPiece
from handshake.ports.model import EgressPass, ModelCall
from handshake.testing.scripted_model import ScriptedModel
from tests.running import Scene


class Acting(ScriptedModel):
    """A local model that does what the test says, once it was asked."""

    def __init__(self, act: Callable[[], AsyncGenerator[TextPiece | Finished, None]]) -> None:
        super().__init__()
        self._act = act
        self.limits: list[CallLimits] = []

    async def answer(self, egress_pass: EgressPass, call: ModelCall) -> AsyncGenerator[TextPiece | Finished, None]:
        egress_pass.spend()
        self.limits.append(call.limits)
        async for piece in self._act():
            yield piece


def left_by(one: Scene) -> list[Any]:
    """Return what attempts left besides their answers."""
    db = one.memory.opened.db
    return db.execute("SELECT kind, data FROM job_artifact JOIN artifact ON artifact_id = sha256").fetchall()
