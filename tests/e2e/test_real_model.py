"""Runs on a real llama.cpp server with the tiny model: the whole way from a session to words and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from handshake.bootstrap import find_workspace, init_workspace, verifier_key
from handshake.kernel.job import JobState
from handshake.kernel.session import SessionState
from handshake.operations import views
from handshake.operations.feed import Over, Started, Text
from handshake.testing.invariants import check_workspace
from handshake.testing.llama_server import LlamaServer
from handshake.testing.tiny_model import write_tiny_model
from handshake.workspace import Workspace, open_workspace
from tests.requirement import requirement

SLOTS = 4
LONG_TOKENS = 1_900


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_tiny_model(path, seed=1)
    return path


@pytest.fixture
async def server(model_path: Path) -> AsyncIterator[LlamaServer]:
    async with LlamaServer(model_path, slots=SLOTS) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, server: LlamaServer) -> Path:
    init_workspace(tmp_path)
    (tmp_path / ".handshake" / "config.toml").write_text(
        f'[providers.tiny]\ndialects = ["openai_chat"]\nbase_url = "{server.base_url}"\nmax_concurrent = {SLOTS}\n'
        f'[providers.tiny.models."{server.model_id}"]\nmax_concurrent = {SLOTS}\n'
    )
    return tmp_path


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Workspace]:
    async with open_workspace(folder) as workspace:
        yield workspace
        key = verifier_key(find_workspace(folder))
        await workspace.runtime.store.read(lambda reader: check_workspace(reader, key))


def plain(server: LlamaServer) -> dict[str, Any]:
    return {"role": "coder", "model": f"tiny/{server.model_id}", "memory_policy": "EPHEMERAL"}


async def metric(server: LlamaServer, name: str) -> int:
    async with aiohttp.ClientSession(trust_env=False) as client, client.get(f"{server.origin}/metrics") as response:
        lines = (await response.text()).splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"llamacpp:{name} "))


@requirement("message.thread.rebuilds_same_bytes")
async def test_a_conversation_goes_on_in_another_runtime_word_for_word(folder: Path, server: LlamaServer) -> None:
    async def talk(*, reopen: bool) -> list[str | None]:
        texts = ["How are you?", "And what now?", "Briefly: why?"]
        said: list[str | None] = []
        session_id = ""
        for part in [[text] for text in texts] if reopen else [texts]:
            async with opened(folder) as workspace:
                session = workspace.sessions.get(session_id)
                if not session_id:
                    session = await workspace.sessions.create(**plain(server))
                    session_id = session.session_id
                turns = [await session.send(text, max_output_tokens=24) for text in part]
                said += [(await turn.result()).text for turn in turns]
        return said

    once = await talk(reopen=False)
    assert len({text for text in once if text}) == 3
    assert await talk(reopen=True) == once


async def test_words_stream_and_usage_is_that_of_the_engine(folder: Path, server: LlamaServer) -> None:
    async with opened(folder) as workspace:
        session = await workspace.sessions.create(**plain(server))
        first = await session.send("Tell me of the sea.", max_output_tokens=40)
        pieces = [piece async for piece in first]
        result = await first.result()
        second = await (await session.send("Go on.", max_output_tokens=8)).result()
        shown = await session.show()
    texts = [piece.text for piece in pieces if isinstance(piece, Text)]
    assert (pieces[0], pieces[-1]) == (Started(1), Over(JobState.COMPLETED))
    assert ("".join(texts), len(texts) > 1) == (result.text, True)
    assert result.usage is not None
    assert second.usage is not None
    assert result.usage.completion_tokens == 40
    assert (second.usage.prompt_tokens or 0) > (result.usage.total_tokens or 0)
    assert shown.total_tokens == (result.usage.total_tokens or 0) + (second.usage.total_tokens or 0)


@requirement("scheduler.limit.is_never_exceeded")
async def test_more_sessions_than_slots_are_all_answered_and_do_not_disturb_each_other(
    folder: Path, server: LlamaServer
) -> None:
    questions = [f"Question {number}: what next?" for number in range(10)]
    async with opened(folder) as workspace:

        async def ask(text: str) -> str | None:
            session = await workspace.sessions.create(**plain(server))
            return (await (await session.send(text, max_output_tokens=24)).result()).text

        together = await asyncio.gather(*map(ask, questions))
        alone = [await ask(text) for text in questions[:3]]
    assert together[:3] == alone
    assert len(set(together)) == len(questions)


@requirement("scheduler.cancel.is_prompt")
async def test_a_cancel_stops_the_engine(folder: Path, server: LlamaServer) -> None:
    async with opened(folder) as workspace:
        session = await workspace.sessions.create(**plain(server))
        turn = await session.send("Go on and on.", max_output_tokens=LONG_TOKENS)
        async for piece in turn:
            if isinstance(piece, Text):
                await turn.cancel()
        result = await turn.result()
        after = await (await session.send("And now?", max_output_tokens=4)).result()
        state = (await session.show()).state
        written = await metric(server, "tokens_predicted_total")
    assert (result.state, result.text) == (JobState.CANCELLED, None)
    assert (after.state, state) == (JobState.COMPLETED, SessionState.IDLE)
    assert written < LONG_TOKENS


@requirement("scheduler.retry.transient_only", "message.content.only_in_artifacts")
async def test_a_question_that_does_not_fit_fails_with_the_engines_words_kept_apart(
    folder: Path, server: LlamaServer
) -> None:
    async with opened(folder) as workspace:
        session = await workspace.sessions.create(**plain(server))
        turn = await session.send("word " * 10_000)
        result = await turn.result()

        def kept(reader: Any) -> tuple[list[str], list[str]]:
            left = views.job_artifacts(reader, turn.job_id)
            rows = reader.rows("event_page", {"after": 0, "limit": 1_000, "type": None, "since_us": 0})
            return [views.text_of(reader, one.artifact_id) for one in left], [str(row[6]) for row in rows]

        texts, events = await workspace.runtime.store.read(kept)
        again = await (await session.send("Short.", max_output_tokens=4)).result()
    assert (result.state, result.attempts, result.error_code) == (JobState.FAILED, 1, "HSK-502-PROVIDER")
    assert ["exceed" in text for text in texts] == [True]
    assert not [event for event in events if "exceed" in event or "word word" in event]
    assert again.state is JobState.COMPLETED
