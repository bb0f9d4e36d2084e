"""The real `handshake` process: exit codes, JSON and texts of every command, across processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from handshake.testing.replies import chunked, event_stream, response
from handshake.testing.upstream import Upstream
from tests.e2e.command_line import NEW_SESSION, PROGRAM, CommandLine, configure
from tests.requirement import requirement

UNUSED = "http://127.0.0.1:9/v1"
ANSWERS = chunked(event_stream("Hello", " there."))
REFUSES = response(b'{"error": "no such model"}', status=400)


def test_help_and_import_load_next_to_nothing() -> None:
    heavy = "{'aiohttp', 'apsw', 'asyncio', 'cryptography', 'rich', 'tomlkit'}"
    for statement in ("import handshake", "import handshake.cli.main"):
        program = f"import sys; {statement}; print(sorted({heavy} & set(sys.modules)))"
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert ended.stdout == "[]\n", statement


async def test_version_and_help(handshake: CommandLine) -> None:
    version = (await handshake("version", "--json")).json["version"]
    assert (await handshake("--version")).out == f"handshake {version}\n"
    assert (await handshake("version")).out == f"handshake {version}\n"
    shown = await handshake("--help")
    assert shown.code == 0
    assert "handshake demo" in shown.out


@requirement("session.create.persists_and_reloads")
async def test_a_session_of_one_process_is_read_back_whole_by_another(handshake: CommandLine, engine: str) -> None:
    assert handshake.folder is not None
    configure(handshake.folder, engine)
    more = ("--lane", "VALIDATION", "--wp", "wp-7", "--mt", "mt-3", "--title", "Über alles")
    made = (await handshake("session", "create", *NEW_SESSION, *more, "--json")).json
    wanted = {"role": "coder", "model": "tiny/tiny-words", "memory_policy": "EPHEMERAL", "lane": "VALIDATION"}
    assert wanted | {"wp_id": "wp-7", "mt_id": "mt-3", "title": "Über alles", "backend": "local"} == {
        key: made[key] for key in (*wanted, "wp_id", "mt_id", "title", "backend")
    }
    assert made["state"] == "CREATED"
    assert (await handshake("session", "show", made["session_id"], "--json")).json == {**made, "budgets": []}
    assert (await handshake("session", "list", "--json")).lines == [made]


@requirement("face.cli.json")
async def test_reading_commands_print_json_of_documented_shape(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    async with Upstream(ANSWERS) as upstream:
        configure(handshake.folder, upstream.base_url)
        session = await handshake.session()
        sent = (await handshake("session", "send", session, "Say hello.", "--json")).json
    assert sent == {
        "job_id": sent["job_id"],
        "session_id": session,
        "state": "completed",
        "text": "Hello there.",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        "settled_tokens": 5,
        "cost_usd": "0.000000",
        "settled_is_estimate": False,
        "attempts": 1,
        "error_code": None,
        "reason": None,
    }
    messages = (await handshake("session", "messages", session, "--json")).lines
    assert [(one["seq"], one["role"], one["text"]) for one in messages] == [
        (1, "USER", "Say hello."),
        (2, "ASSISTANT", "Hello there."),
    ]
    (job,) = (await handshake("job", "list", "--session", session, "--json")).lines
    assert job == (await handshake("job", "show", sent["job_id"], "--json")).json
    assert (job["state"], job["usage"]["total_tokens"]) == ("completed", 5)
    events = (await handshake("events", "list", "--session", session, "--json")).lines
    assert [one["type"] for one in events][:2] == ["session.created", "session.message"]
    assert events[0] == (await handshake("events", "show", str(events[0]["seq"]), "--json")).json
    assert {len(one["hash"]) for one in events} == {64}
    assert (await handshake("queue", "show", "--json")).json == {"queued": 0, "running": 0, "desk": 0, "items": []}
    status = (await handshake("status", "--json")).json
    assert (status["sessions"], status["jobs"], status["held_by"]) == ({"idle": 1}, {"completed": 1}, None)
    assert status["events"] == (await handshake("events", "list", "--newest-first", "--json")).lines[0]["seq"]
    for moment in (job["created_at"], events[0]["timestamp"], status["created_at"], messages[0]["timestamp"]):
        assert moment.endswith("Z")
        assert "T" in moment


async def test_plain_texts_are_for_people(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    async with Upstream(ANSWERS) as upstream:
        configure(handshake.folder, upstream.base_url)
        session = await handshake.session("--title", "first one")
        assert (await handshake("session", "send", session, "Say hello.")).out == "Hello there.\n"
    listed = (await handshake("session", "list")).out.splitlines()
    assert listed[0].split() == ["SESSION", "STATE", "ROLE", "LANE", "MODEL", "TURNS", "TOKENS", "TITLE"]
    assert listed[1].startswith(f"{session}  IDLE ")
    assert listed[1].index("IDLE") == listed[0].index("STATE")
    assert f"session id       {session}" in (await handshake("session", "show", session)).out
    assert "Hello there.\n" in (await handshake("session", "messages", session)).out
    assert (await handshake("queue", "show")).out == "0 running, 0 waiting\n"
    line = (await handshake("status", "--line")).out
    assert line.startswith("HSK_STATUS role=operator wp=- mt=- phase=IMPLEMENTATION state=IDLE ")
    marker = (await handshake("status", "--line", "--session", session)).out
    assert " model=tiny/tiny-words backend=local pc=PUnknown " in marker


async def test_lists_go_on_after_a_cursor(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    async with Upstream(ANSWERS) as upstream:
        configure(handshake.folder, upstream.base_url)
        made = [await handshake.session() for _ in range(3)]
    first = (await handshake("session", "list", "--limit", "2", "--json")).lines
    assert [one["session_id"] for one in first] == made[:2]
    rest = (await handshake("session", "list", "--after", made[1], "--json")).lines
    assert [one["session_id"] for one in rest] == made[2:]
    assert (await handshake("events", "list", "--after", "1", "--limit", "1", "--json")).json["seq"] == 2
    assert (await handshake("session", "list", "--limit", "0")).code == 2


@requirement("scheduler.jobs.history_visible")
async def test_ended_jobs_stay_listed_with_state_and_reason(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    async with Upstream(ANSWERS, REFUSES) as upstream:
        configure(handshake.folder, upstream.base_url)
        session = await handshake.session()
        assert (await handshake("session", "send", session, "one")).code == 0
        failed = await handshake("session", "send", session, "two")
    assert failed.code == 1
    assert failed.out == ""
    waiting = (await handshake("session", "send", session, "three", "--no-wait", "--json")).json
    assert waiting["state"] == "queued"
    cancelled = await handshake("job", "cancel", waiting["job_id"], "--reason", "not_needed", "--json")
    assert cancelled.json == {"job_id": waiting["job_id"], "cancelled": True, "may_have_left": False}
    jobs = (await handshake("job", "list", "--json")).lines
    assert [(one["state"], one["reason"], one["error_code"]) for one in jobs] == [
        ("completed", None, None),
        ("failed", "status_400", "HSK-502-PROVIDER"),
        ("cancelled", "not_needed", None),
    ]
    assert (await handshake("job", "list", "--state", "failed", "--json")).json["job_id"] == jobs[1]["job_id"]
    told = failed.err.splitlines()
    assert told[0] == (
        f"HSK-502-PROVIDER: the provider failed (job_id={jobs[1]['job_id']}, state=failed, "
        "reason=status_400, attempts=1)"
    )
    assert told[1].startswith("hint: ")
    (left,) = (await handshake("job", "artifacts", jobs[1]["job_id"], "--json")).lines
    assert left["kind"] == "provider_error"
    body = await handshake("job", "artifacts", jobs[1]["job_id"], "--print", left["artifact_id"])
    assert body.out == '{"error": "no such model"}\n'
    assert (await handshake("job", "artifacts", jobs[1]["job_id"], "--print", "0" * 64)).code == 4


@requirement("session.pause.keeps_queue")
async def test_a_paused_session_keeps_its_queue_across_processes(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    async with Upstream(ANSWERS) as upstream:
        configure(handshake.folder, upstream.base_url)
        session = await handshake.session()
        queued = [
            (await handshake("session", "send", session, text, "--no-wait")).out.strip() for text in ("one", "two")
        ]
        assert (await handshake("session", "pause", session)).out == f"{session} PAUSED\n"
        refused = await handshake("session", "send", session, "three", "--json")
        assert (refused.code, refused.error["details"]["reason"]) == (5, "session_paused")
        items = (await handshake("queue", "show", "--json")).json["items"]
        assert [(one["job_id"], one["wait_reason"]) for one in items] == [(one, "session_paused") for one in queued]
        idle = (await handshake("queue", "run", "--json")).json
        assert idle == {"completed": 0, "completed_with_issues": 0, "failed": 0, "cancelled": 0, "left": 2}
        assert upstream.requests == []
        assert (await handshake("session", "resume", session, "--json")).json["state"] == "CREATED"
        ran = await handshake("queue", "run", "--json")
        assert (ran.code, ran.json["completed"], ran.json["left"]) == (0, 2, 0)
    texts = [one["text"] for one in (await handshake("session", "messages", session, "--json")).lines]
    assert texts == ["one", "two", "Hello there.", "Hello there."]
    jobs = (await handshake("job", "list", "--json")).lines
    assert [one["job_id"] for one in sorted(jobs, key=lambda one: str(one["started_at"]))] == queued
    assert (await handshake("session", "complete", session)).out == f"{session} COMPLETED\n"
    assert (await handshake("session", "complete", session)).code == 5


async def test_cancelling_a_session_ends_its_queue(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    async with Upstream(ANSWERS) as upstream:
        configure(handshake.folder, upstream.base_url)
        session = await handshake.session()
        job = (await handshake("session", "send", session, "one", "--no-wait")).out.strip()
        ended = (await handshake("session", "cancel", session, "--json")).json
    assert (ended["state"], ended["cancelled_job_ids"]) == ("CANCELLED", [job])
    assert (await handshake("session", "send", session, "two")).code == 5


@requirement("face.config.strict")
async def test_a_wrong_configuration_is_refused_with_a_suggestion(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    configure(handshake.folder, UNUSED, "[scheduler]\nmax_concurent_runs = 3\n")
    refused = await handshake("session", "create", *NEW_SESSION)
    assert refused.code == 2
    assert refused.out == ""
    assert refused.err.startswith("HSK-400-INVALID-CONFIG: the configuration is wrong (")
    assert "max_concurrent_runs" in refused.err.splitlines()[1]


@requirement("face.cli.json")
@pytest.mark.parametrize(
    ("arguments", "code", "error", "meant"),
    [
        (["sesion"], 2, "HSK-400-INVALID-REQUEST", "handshake session"),
        (["session", "lst"], 2, "HSK-400-INVALID-REQUEST", "handshake session list"),
        (["session", "list", "--limt", "3"], 2, "HSK-400-INVALID-REQUEST", "--limit"),
        (["session", "create", "--role", "coder"], 2, "HSK-400-INVALID-REQUEST", "session create --help"),
        (["session", "create", *NEW_SESSION, "--lane", "primry"], 2, "HSK-400-INVALID-REQUEST", "PRIMARY"),
        (["session", "show", "nothing"], 4, "HSK-404-NOT-FOUND", "List"),
        (["job", "show", "nothing"], 4, "HSK-404-NOT-FOUND", "List"),
        (["job", "list", "--session", "nothing"], 4, "HSK-404-NOT-FOUND", "List"),
        (["job", "list", "--state", "complete"], 2, "HSK-400-INVALID-REQUEST", "completed"),
        (["events", "show", "7"], 4, "HSK-404-NOT-FOUND", "List"),
        (["events", "list", "--type", "session.creatd"], 2, "HSK-400-INVALID-REQUEST", "session.created"),
        (["events", "list", "--since", "yesterday"], 2, "HSK-400-INVALID-REQUEST", "15m"),
        (["audit", "prove", "7"], 4, "HSK-404-NOT-FOUND", "List"),
        (["audit", "prove"], 2, "HSK-400-INVALID-REQUEST", "--since FILE"),
        (["audit", "checkpoint", "--last"], 5, "HSK-409-CONFLICT", "audit checkpoint"),
        (["session", "send", "nothing", "x"], 4, "HSK-404-NOT-FOUND", "List"),
        (["session", "list", "--role", b"\xff"], 2, "HSK-400-INVALID-REQUEST", "field"),
        (["session", "list", "--after", b"\xff"], 2, "HSK-400-INVALID-REQUEST", "field"),
        (["session", "show", b"\xff"], 4, "HSK-404-NOT-FOUND", "List"),
        (["-w", b"\xff/none", "status"], 4, "HSK-404-NOT-FOUND", "handshake init"),
    ],
)
async def test_errors_are_coded_lines_with_a_next_step(
    handshake: CommandLine, arguments: list[str | bytes], code: int, error: str, meant: str
) -> None:
    assert handshake.folder is not None
    configure(handshake.folder, UNUSED)
    plain = await handshake(*arguments)
    assert (plain.code, plain.out) == (code, "")
    line, hint = plain.err.splitlines()
    assert line.startswith(f"{error}: ")
    assert hint.startswith("hint: ")
    assert meant in hint
    told = await handshake(*arguments, "--json")
    assert (told.code, told.out) == (code, "")
    assert told.error["code"] == error
    assert f"hint: {told.error['hint']}" == hint


async def test_a_text_that_is_no_text_is_refused(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    async with Upstream(ANSWERS) as upstream:
        configure(handshake.folder, upstream.base_url)
        session = await handshake.session()
    wrong = ((b"a\xffb", None, "lone_surrogate"), (b"-", b"a\xffb", "not_utf8"), (b"", None, "empty"))
    for text, stdin, reason in wrong:
        refused = await handshake("session", "send", session, text, "--json", stdin=stdin)
        assert (refused.code, refused.error["details"]["reason"]) == (2, reason)
    large = await handshake("session", "send", session, "-", "--json", stdin=b"x" * (8 * 1024 * 1024 + 1))
    assert (large.code, large.error["code"]) == (2, "HSK-413-TOO-LARGE")
    assert (await handshake("job", "list", "--json")).out == ""


async def test_the_workspace_is_named_or_found(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    nowhere = CommandLine(None, handshake.home)
    inside = handshake.folder / "a" / "b"
    inside.mkdir(parents=True)
    wanted = str(handshake.folder)
    assert (await handshake("status", "--json")).json["workspace"] == wanted
    assert (await nowhere("status", "--json", cwd=inside)).json["workspace"] == wanted
    assert (await nowhere("-w", wanted, "status", "--json")).json["workspace"] == wanted
    assert (await nowhere("status", "-w", wanted, "--json")).json["workspace"] == wanted
    missing = await nowhere("status", "--json")
    assert (missing.code, missing.error["details"]["kind"]) == (4, "workspace")
    below = await handshake("-w", str(inside), "status", "--json")
    assert (below.code, below.error["details"]["named_by"]) == (4, "--workspace")


async def test_init_makes_a_workspace_once(handshake: CommandLine, tmp_path: Path) -> None:
    made = await handshake("init", str(tmp_path / "new"), "--json")
    assert made.json == {
        "workspace": str(tmp_path / "new"),
        "config": str(tmp_path / "new" / ".handshake" / "config.toml"),
    }
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new" / ".handshake").iterdir()}
    assert {mode for name, mode in modes.items() if "." not in name} == {0o700}
    assert {mode for name, mode in modes.items() if "." in name} == {0o600}
    assert (await handshake("init", str(tmp_path / "new"))).code == 5


async def test_verifying_a_changed_log_ends_with_the_integrity_code(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    async with Upstream(ANSWERS) as upstream:
        configure(handshake.folder, upstream.base_url)
        session = await handshake.session()
        assert (await handshake("session", "send", session, "one")).code == 0
    checkpoint = handshake.home / "checkpoint.txt"
    checkpoint.write_text((await handshake("audit", "checkpoint")).out, encoding="utf-8")
    key = handshake.home / "key.txt"
    key.write_text((await handshake("audit", "checkpoint", "--last", "--json")).json["verifier_key"], encoding="utf-8")
    sound = await handshake("audit", "verify", "--deep", "--against", str(checkpoint), "--key", str(key), "--json")
    assert sound.code == 0
    assert sound.json["verified"] is True
    assert sound.json["anchored_events"] == sound.json["signed_events"] == sound.json["events"] - 1
    assert (await handshake("audit", "prove", "2")).out.startswith("c2sp.org/tlog-proof@v1\n")
    db = apsw.Connection(str(handshake.folder / ".handshake" / "state.db"))
    db.execute("UPDATE event SET body = CAST(replace(CAST(body AS TEXT), 'coder', 'codes') AS BLOB) WHERE seq = 1")
    db.close()
    broken = await handshake("audit", "verify", "--json")
    assert (broken.code, broken.json["verified"]) == (6, False)
    assert (broken.json["broken"]["damage"], broken.json["broken"]["seq"]) == ("altered", 1)
    assert (await handshake("audit", "verify")).out.startswith("BROKEN: event 1 altered")
    assert (await handshake("events", "list", "--json")).error["code"] == "HSK-500-INTEGRITY"


async def test_doctor_names_what_is_wrong_and_what_to_do(handshake: CommandLine, engine: str) -> None:
    assert handshake.folder is not None
    configure(handshake.folder, engine)
    healthy = await handshake("doctor", "--json")
    assert (healthy.code, healthy.json["healthy"]) == (0, True)
    assert {one["verdict"] for one in healthy.json["findings"]} == {"ok"}
    more = '[providers.far]\ndialects = ["openai_chat"]\nbase_url = "http://192.0.2.1/v1"\n'
    configure(handshake.folder, UNUSED, more)
    (handshake.folder / ".handshake" / "keys" / "log.ed25519").chmod(0o644)
    ill = await handshake("doctor", "--json")
    assert (ill.code, ill.json["healthy"]) == (1, False)
    failing = {one["subject"]: one for one in ill.json["findings"] if one["verdict"] == "fail"}
    assert set(failing) == {"permissions", "provider far", "provider tiny"}
    assert "HSK-403-SSRF-BLOCKED" in failing["provider far"]["detail"]
    assert all(one["next_step"] for one in failing.values())
    assert "next: " in (await handshake("doctor")).out
    nowhere = CommandLine(None, handshake.home)
    assert (await nowhere("doctor")).code == 0


async def test_a_reader_that_leaves_ends_the_output_quietly(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    async with Upstream() as upstream:
        configure(handshake.folder, upstream.base_url)
        await handshake.session()
    reading, writing = os.pipe()
    os.close(reading)
    process = await asyncio.create_subprocess_exec(
        *(str(PROGRAM), "events", "list", "--json"),
        stdout=writing,
        stderr=asyncio.subprocess.PIPE,
        env=handshake.environment(),
    )
    os.close(writing)
    _, told = await process.communicate()
    assert (process.returncode, told) == (1, b"")
