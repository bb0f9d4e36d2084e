"""Tests of the real llama.cpp server on the tiny model: its answers over HTTP, and the life of its process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from handshake.kernel.errors import InvalidRequest, NoReadyModel
from handshake.testing.llama_server import ANSWER_TOKENS, MAX_SLOTS, LlamaServer
from handshake.testing.tiny_model import write_tiny_model

ENOUGH_SECONDS = 30
LONG_ANSWER_TOKENS = 1_900


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_tiny_model(path, seed=1)
    return path


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    limit = aiohttp.ClientTimeout(total=ENOUGH_SECONDS)
    async with aiohttp.ClientSession(timeout=limit, trust_env=False) as session:
        yield session


def _body(text: str, **more: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}], **more}


async def _chat(client: aiohttp.ClientSession, server: LlamaServer, text: str, **more: object) -> dict[str, Any]:
    async with client.post(f"{server.base_url}/chat/completions", json=_body(text, **more)) as response:
        assert response.status == 200
        answer: dict[str, Any] = await response.json()
        return answer


async def _text(client: aiohttp.ClientSession, server: LlamaServer, text: str, **more: object) -> str:
    return str((await _chat(client, server, text, **more))["choices"][0]["message"]["content"])


async def _metric(client: aiohttp.ClientSession, server: LlamaServer, name: str) -> int:
    async with client.get(f"{server.origin}/metrics") as response:
        lines = (await response.text()).splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"llamacpp:{name} "))


def _is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


async def _ended(process_id: int) -> None:
    """Wait until a process that is not our child has ended."""
    over = asyncio.Event()
    try:
        handle = os.pidfd_open(process_id)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    loop.add_reader(handle, over.set)
    try:
        async with asyncio.timeout(ENOUGH_SECONDS):
            await over.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


async def test_it_answers_a_chat_with_words_until_the_limit(model_path: Path, client: aiohttp.ClientSession) -> None:
    async with LlamaServer(model_path) as server:
        answer = await _chat(client, server, "How are you today?", max_tokens=40)

    (choice,) = answer["choices"]
    usage = answer["usage"]
    assert answer["model"] == server.model_id
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"].isascii()
    assert choice["message"]["content"].isprintable()
    assert len(choice["message"]["content"].split()) >= 30
    assert usage["completion_tokens"] == 40
    assert usage["prompt_tokens"] + 40 == usage["total_tokens"]


async def test_it_names_its_model(model_path: Path, client: aiohttp.ClientSession) -> None:
    async with LlamaServer(model_path) as server, client.get(f"{server.base_url}/models") as response:
        assert [model["id"] for model in (await response.json())["data"]] == [server.model_id]


async def test_an_answer_without_a_limit_of_its_own_is_bounded(model_path: Path, client: aiohttp.ClientSession) -> None:
    async with LlamaServer(model_path) as server:
        answer = await _chat(client, server, "Tell me everything.")

    assert answer["usage"]["completion_tokens"] == ANSWER_TOKENS


async def test_a_brief_word_makes_it_stop_after_one_sentence(model_path: Path, client: aiohttp.ClientSession) -> None:
    async with LlamaServer(model_path) as server:
        for text in ("Tell me briefly of the plan.", "Briefly: what now?" + " Then wait." * 150):
            (choice,) = (await _chat(client, server, text, max_tokens=400))["choices"]
            assert choice["finish_reason"] == "stop"
            assert choice["message"]["content"].endswith(".")
            assert choice["message"]["content"].count(".") == 1


@pytest.mark.parametrize("text", ["Grüße, 你好, 🙂", "\x00\x07\x1b[31m", "<|user|>", "\\x41 { } \\", " "])
async def test_it_reads_any_text(model_path: Path, client: aiohttp.ClientSession, text: str) -> None:
    async with LlamaServer(model_path) as server:
        answer = await _text(client, server, text, max_tokens=8)

    assert answer.isprintable()
    assert answer


async def test_a_request_longer_than_the_context_is_refused(model_path: Path, client: aiohttp.ClientSession) -> None:
    async with LlamaServer(model_path, context_tokens=256) as server:
        url = f"{server.base_url}/chat/completions"
        async with client.post(url, json=_body("x" * 1_000)) as response:
            assert response.status == 400
            assert (await response.json())["error"]["type"] == "exceed_context_size_error"


async def test_a_stream_carries_the_same_text_and_ends_with_usage(
    model_path: Path, client: aiohttp.ClientSession
) -> None:
    body = _body("Stream it.", max_tokens=24, stream=True, stream_options={"include_usage": True})
    async with LlamaServer(model_path) as server:
        whole = await _text(client, server, "Stream it.", max_tokens=24)
        async with client.post(f"{server.base_url}/chat/completions", json=body) as response:
            assert response.content_type == "text/event-stream"
            data = [line[6:].strip() async for line in response.content if line.startswith(b"data: ")]

    chunks = [json.loads(one) for one in data[:-1]]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert data[-1] == b"[DONE]"
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == whole
    assert len(choices) >= 24
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["length"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 24


async def test_the_same_request_gives_the_same_text_also_after_a_restart(
    model_path: Path, client: aiohttp.ClientSession
) -> None:
    texts, explicit = [], ""
    for _ in range(2):
        async with LlamaServer(model_path, seed=7) as server:
            texts += [await _text(client, server, "Once more.", max_tokens=64) for _ in range(2)]
            explicit = await _text(client, server, "Once more.", max_tokens=64, seed=8)
    async with LlamaServer(model_path, seed=8) as server:
        other = await _text(client, server, "Once more.", max_tokens=64)

    assert len(set(texts)) == 1
    assert other != texts[0]
    assert explicit == other


async def test_more_requests_than_slots_are_all_served_and_do_not_change_each_other(
    model_path: Path, client: aiohttp.ClientSession
) -> None:
    questions = [f"Question {number}: what next?" for number in range(6)]
    async with LlamaServer(model_path, slots=4) as server:
        alone = [await _text(client, server, one, max_tokens=48) for one in questions]
        together = await asyncio.gather(*(_text(client, server, one, max_tokens=48) for one in questions))

    assert together == alone
    assert len(set(alone)) == len(questions)


async def test_closing_the_connection_stops_the_generation(model_path: Path, client: aiohttp.ClientSession) -> None:
    body = _body("Go on and on.", max_tokens=LONG_ANSWER_TOKENS, stream=True)
    async with LlamaServer(model_path, slots=1) as server:
        response = await client.post(f"{server.base_url}/chat/completions", json=body)
        assert (await response.content.readline()).startswith(b"data: ")
        response.close()

        answer = await _chat(client, server, "And you?", max_tokens=4)
        written = await _metric(client, server, "tokens_predicted_total")

    assert answer["usage"]["completion_tokens"] == 4
    assert written < LONG_ANSWER_TOKENS


async def test_the_process_is_gone_after_the_block(model_path: Path) -> None:
    async with LlamaServer(model_path) as server:
        process_id = server.process_id
        assert _is_running(process_id)

    assert not _is_running(process_id)
    with pytest.raises(NoReadyModel) as refused:
        _ = server.base_url
    assert refused.value.context == {"reason": "not_started"}


async def test_the_process_is_gone_after_an_error_in_the_block(model_path: Path) -> None:
    started = []

    async def fail() -> None:
        async with LlamaServer(model_path) as server:
            started.append(server.process_id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert [_is_running(process_id) for process_id in started] == [False]


async def test_the_process_is_gone_even_if_it_does_not_listen(model_path: Path) -> None:
    async with LlamaServer(model_path) as server:
        process_id = server.process_id
        os.kill(process_id, signal.SIGSTOP)  # a stopped process does not act on a polite end
        await asyncio.to_thread(os.waitid, os.P_PID, process_id, os.WSTOPPED)

    assert not _is_running(process_id)


_PARENT = """
import asyncio, sys
from pathlib import Path
from handshake.testing.llama_server import LlamaServer

async def main():
    async with LlamaServer(Path(sys.argv[1])) as server:
        print(server.process_id, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_the_process_ends_when_its_parent_is_killed(model_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PARENT, str(model_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    try:
        process_id = int(await parent.stdout.readline())
        assert _is_running(process_id)
    finally:
        parent.kill()
        await parent.wait()

    await _ended(process_id)


async def test_one_object_can_be_started_again(model_path: Path, client: aiohttp.ClientSession) -> None:
    server = LlamaServer(model_path)
    for _ in range(2):
        async with server:
            assert await _text(client, server, "Again?", max_tokens=4)


async def test_a_missing_or_broken_model_is_a_coded_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF but not really")
    for path in (tmp_path / "missing.gguf", broken):
        with pytest.raises(NoReadyModel) as failed:
            await LlamaServer(path).__aenter__()
        assert failed.value.context["reason"] == "server_ended"
        assert failed.value.context["exit_status"] != 0


async def test_a_taken_port_is_a_coded_error(model_path: Path) -> None:
    async with LlamaServer(model_path) as server:
        port = int(server.origin.rpartition(":")[2])
        with pytest.raises(NoReadyModel) as failed:
            await LlamaServer(model_path, port=port).__aenter__()

    assert failed.value.context["reason"] == "server_ended"


async def test_without_the_extra_the_error_says_what_to_install(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(NoReadyModel) as failed:
        await LlamaServer(model_path).__aenter__()

    assert failed.value.context == {"reason": "extra_missing"}
    assert "handshake-runtime[llama]" in failed.value.hint


@pytest.mark.parametrize(
    ("field", "value"),
    [("slots", 0), ("slots", MAX_SLOTS + 1), ("context_tokens", 1), ("port", 65_536), ("seed", -1), ("seed", 2**32)],
)
def test_a_number_out_of_range_is_refused(model_path: Path, field: str, value: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        LlamaServer(model_path, **{field: value})

    assert refused.value.context["field"] == field
