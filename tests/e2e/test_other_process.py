"""Other process: it reads and verifies a workspace while a runtime writes to it."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from handshake.workspace import open_workspace
from tests.requirement import requirement
from tests.written_log import MODELS, new_workspace

ROUNDS = 6
READER = """
import json, sys
from pathlib import Path
from handshake.bootstrap import find_workspace, read_only, verify_log
from handshake.operations import audit, views

place = find_workspace(Path(sys.argv[1]))
store = read_only(place)
for _ in sys.stdin:
    verdict = verify_log(place, deep=True)
    newest = store.read_now(lambda reader: audit.events(reader, limit=5, newest_first=True))
    open_runs = store.read_now(lambda reader: views.workspace(reader))
    told = {"sound": verdict.sound, "size": verdict.size, "newest": newest[0].seq, "events": open_runs.events}
    print(json.dumps(told), flush=True)
store.shut()
"""


@requirement("recorder.read.while_writing")
async def test_reader_in_another_process_sees_a_sound_log_that_grows(tmp_path: Path) -> None:
    place = new_workspace(tmp_path)
    flags = {"recorder.checkpoint_every_events": "8"}
    async with open_workspace(place.root, models=MODELS, flags=flags) as hs:
        session = await hs.sessions.create(role="coder", model="near/m", memory_policy="EPHEMERAL")
        reader = await asyncio.create_subprocess_exec(
            sys.executable, "-c", READER, str(tmp_path), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert reader.stdin is not None
        assert reader.stdout is not None
        seen = []
        for _ in range(ROUNDS):
            before = (await hs.status()).events
            reader.stdin.write(b"look\n")
            line = asyncio.create_task(reader.stdout.readline())
            written = 0
            while not line.done() or written == 0:
                assert (await (await session.send(f"question {written}")).result()).text
                written += 1
            told: dict[str, Any] = json.loads(await line)
            assert told["sound"]
            assert before <= told["size"] <= told["newest"] <= told["events"] <= (await hs.status()).events
            seen.append(told["size"])
        reader.stdin.close()
        assert await reader.wait() == 0
    assert seen == sorted(set(seen))
