"""Llama server: a real llama.cpp HTTP server in a process of its own on loopback, for tests and the demo.

The parent side is `LlamaServer`; the child side is this module run as a program, and only there the engine is loaded.
The routes are llama.cpp's own: `/v1/chat/completions`, `/v1/messages`, `/v1/models`, `/health`, `/slots`, `/metrics`
and others; there is no key.

With the same model file, `seed` and request body the text is the same, also after a restart and beside other requests:
the sampling seed is fixed unless a request brings its own, prompts are read anew for each request, and sums are kept in
single precision. (Decoding together moves the last bits of a sum; only words that are equally likely to some seven
digits could tell. Another kind of processor may tell more.)
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from handshake.kernel.errors import InvalidRequest, NoReadyModel
from handshake.testing.tiny_model import CONTEXT_TOKENS, MODEL_NAME

if __name__ == "__main__":
    import xllamacpp

MAX_SLOTS = 64
"""Most requests that are decoded at the same time."""
MIN_CONTEXT_TOKENS = 256
ANSWER_TOKENS = 256
"""Longest answer to a request that names no limit of its own."""

_START_MS = 30_000
_PROBE_MS = 2_000
_PROBE_PAUSE_MS = 20
_STOP_MS = 1_000
_MAX_READY_LINE_BYTES = 64
_MAX_PORT = 65_535
_MAX_SEED = 2**32 - 2
"""Largest seed; the next number means chance to llama.cpp."""
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h
_HOST = "127.0.0.1"
_INSTALL = "Install the engine: pip install 'handshake-runtime[llama]'."


class _Settings(NamedTuple):
    """What the child is told, all of it on its command line; nothing in it is secret."""

    model_path: Path
    slots: int
    context_tokens: int
    port: int
    seed: int


class LlamaServer:
    """A llama.cpp server that lives as long as its `async with` block, and no longer than the thread that entered it.

    Args:
        model_path: a GGUF file.
        slots: requests that are decoded at the same time, 1 to `MAX_SLOTS`; others wait in its queue.
        context_tokens: tokens that one request may have, prompt and answer together.
        port: port on 127.0.0.1; 0 takes a free one.
        seed: sampling seed of requests that bring none.

    Raises:
        InvalidRequest: a number is out of range.
    """

    model_id = MODEL_NAME
    """Name under which the server knows its model."""

    def __init__(
        self, model_path: Path, *, slots: int = 4, context_tokens: int = 2048, port: int = 0, seed: int = 1
    ) -> None:
        _check_range("slots", slots, 1, MAX_SLOTS)
        _check_range("context_tokens", context_tokens, MIN_CONTEXT_TOKENS, CONTEXT_TOKENS)
        _check_range("port", port, 0, _MAX_PORT)
        _check_range("seed", seed, 0, _MAX_SEED)
        self._settings = _Settings(model_path, slots, context_tokens, port, seed)
        self._process: asyncio.subprocess.Process | None = None
        self._port = 0

    @property
    def origin(self) -> str:
        """`http://127.0.0.1:PORT`, for the routes outside `/v1`."""
        if self._process is None:
            raise NoReadyModel(reason="not_started")
        return f"http://{_HOST}:{self._port}"

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:PORT/v1`."""
        return f"{self.origin}/v1"

    @property
    def process_id(self) -> int:
        """Id of the server's process."""
        if self._process is None:
            raise NoReadyModel(reason="not_started")
        return self._process.pid

    async def __aenter__(self) -> Self:
        """Start the server and wait until it is ready.

        Raises:
            NoReadyModel: the extra `llama` is missing, the server ended (no such model, port taken), or it was
                not ready in time; the reason is a token.
        """
        if importlib.util.find_spec("xllamacpp") is None:
            raise NoReadyModel(reason="extra_missing", hint=_INSTALL)
        process = await _spawn(self._settings)
        self._process = process
        try:
            async with asyncio.timeout(_START_MS / 1000):
                self._port = await _announced_port(process)
                await _become_healthy(self._port)
        except TimeoutError:
            await self._stop()
            raise NoReadyModel(reason="not_ready_in_time", limit_ms=_START_MS) from None
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the server: politely, and by force after a bounded wait."""
        await self._stop()

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(_STOP_MS / 1000):
                await process.wait()
        except TimeoutError:
            pass
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def _check_range(field: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InvalidRequest(field=field, reason="out_of_range", minimum=least, maximum=most)


async def _spawn(settings: _Settings) -> asyncio.subprocess.Process:
    """Start the child in a session of its own, so that Ctrl-C reaches it through us only."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "handshake.testing.llama_server"),
        *("--model", str(settings.model_path)),
        *("--slots", str(settings.slots)),
        *("--context-tokens", str(settings.context_tokens)),
        *("--port", str(settings.port)),
        *("--seed", str(settings.seed)),
        *("--parent", str(os.getpid())),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        # The child finds the same modules as we do, and inherits nothing else: no credentials, no proxies.
        env={"PYTHONPATH": os.pathsep.join(folder for folder in sys.path if folder)},
        limit=_MAX_READY_LINE_BYTES,
        start_new_session=True,
    )


async def _announced_port(process: asyncio.subprocess.Process) -> int:
    """Return the port that the child writes once its model is loaded."""
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise NoReadyModel(reason="server_ended", exit_status=await process.wait())
    return int(line)


async def _become_healthy(port: int) -> None:
    """Return once the health route says yes; the caller bounds the time."""
    while True:
        if await _is_healthy(port):
            return
        await asyncio.sleep(_PROBE_PAUSE_MS / 1000)


async def _is_healthy(port: int) -> bool:
    """Ask the health route once; no answer means no."""
    try:
        async with asyncio.timeout(_PROBE_MS / 1000):
            reader, writer = await asyncio.open_connection(_HOST, port)
            try:
                writer.write(b"GET /health HTTP/1.0\r\n\r\n")
                status = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return b" 200 " in status


# ── Child ──────────────────────────────────────────────────────────────────────────────────────────────────


def _die_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends, however that comes about."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PARENT_DEATH_SIGNAL, ctypes.c_ulong(signal.SIGKILL)) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it ended before the call
        sys.exit(1)


def _parse(arguments: Sequence[str]) -> tuple[_Settings, int]:
    """Return the settings and the id of the parent's process."""
    parser = argparse.ArgumentParser(description="Serve one GGUF model on loopback until the parent ends.")
    parser.add_argument("--model", type=Path, required=True)
    for name in ("--slots", "--context-tokens", "--port", "--seed", "--parent"):
        parser.add_argument(name, type=int, required=True)
    told = parser.parse_args(arguments)
    return _Settings(told.model, told.slots, told.context_tokens, told.port, told.seed), told.parent


def _parameters(settings: _Settings) -> xllamacpp.CommonParams:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(settings.model_path)
    parameters.model_alias = {MODEL_NAME}
    parameters.offline = True
    parameters.hostnames = [_HOST]
    parameters.port = settings.port
    parameters.cors_origins = ""
    parameters.ui = False
    parameters.endpoint_slots = True
    parameters.endpoint_metrics = True
    parameters.verbosity = 0
    parameters.n_parallel = settings.slots
    parameters.n_ctx = settings.slots * settings.context_tokens
    parameters.n_predict = ANSWER_TOKENS
    parameters.fit_params = False
    parameters.warmup = False
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    # Waiting requests and idle connections hold a thread each, decoding does not.
    parameters.n_threads_http = settings.slots + 16
    # Short rows over a long context are several times faster without it on a plain processor.
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    # Same request, same sums: nothing is left over from the request before, and nothing is rounded to half precision,
    # where a last bit that moved would become a thousandth.
    parameters.cache_prompt = False
    parameters.cache_ram_mib = 0
    parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    parameters.sampling.seed = settings.seed
    parameters.sampling.temp = 0.8
    return parameters


def _serve(arguments: Sequence[str]) -> None:
    """Announce the port on standard output, then serve until a signal ends this process."""
    settings, parent = _parse(arguments)
    _die_with(parent)
    announcement = os.dup(1)
    os.dup2(2, 1)  # what the engine prints goes where errors go
    server = xllamacpp.Server(_parameters(settings))
    port = server.listening_address.rpartition(":")[2]
    os.write(announcement, f"{port}\n".encode())
    os.close(announcement)
    while True:
        signal.pause()


if __name__ == "__main__":
    _serve(sys.argv[1:])
