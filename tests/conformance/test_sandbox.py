from __future__ import annotations

import asyncio
import os
import select
import sys
from pathlib import Path

import pytest

from handshake.runners.machine import new_event_loop
from handshake.tools.sandbox import plan
from handshake.tools.sandbox.orders import HOST, LANDLOCK
from handshake.tools.sandbox.policy import Limits, NotConfined, Outcome, Policy
from handshake.tools.sandbox.sandbox import BACKENDS, Sandbox, run_in
from handshake.tools.sandbox.self_test import self_test
from handshake.tools.sandbox.write_places import hidden_places, write_places
from tests.requirement import requirement

PYTHON = os.path.realpath(sys.executable)
PATH = "/usr/local/bin:/usr/bin:/bin"
END_S = 5
MOST_LOOKS = 5_000
MIB = 1024 * 1024


def offered() -> tuple[str, ...]:
    """Return the backends that pass here; all of them if none does, so that their tests fail instead of vanishing."""

    async def look() -> list[str]:
        sandbox = Sandbox()
        return [one for one in BACKENDS if (await sandbox.finding(one)).is_good]

    return tuple(asyncio.run(look())) or BACKENDS


OFFERED = offered()
every_backend = pytest.mark.parametrize("backend", OFFERED)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "root"
    for one in ("src", "docs", ".handshake", ".git/hooks", "private"):
        (place / one).mkdir(parents=True)
    for one in (".handshake/secret", ".git/config", "private/key", "docs/page", "src/code"):
        (place / one).write_text("as it was")
    return place


async def ran(
    backend: str,
    root: Path,
    *argv: str,
    write: tuple[str, ...] = ("src/**",),
    hidden: tuple[str, ...] = (),
    stdin: bytes = b"",
    **limits: int,
) -> Outcome:
    limits.setdefault("timeout_ms", 20_000)
    policy = Policy(
        argv=argv,
        root=str(root),
        cwd=str(root),
        environment=(("PATH", PATH), ("GIVEN", "yes")),
        write=write_places(str(root), write),
        hidden=hidden_places(str(root), hidden),
        read=plan.interpreter_places(),
        limits=Limits(**limits),
    )
    return await run_in(backend, policy, stdin)


def running(marker: str) -> list[int]:
    """Return the processes of this machine that have a marker among their words."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if marker.encode() in words:
            found.append(int(name))
    return found


def until_running(marker: str, processes: int) -> list[int]:
    """Look until so many processes have a marker, and return them; what never comes shows as too few."""
    found: list[int] = []
    for _ in range(MOST_LOOKS):
        found = running(marker)
        if len(found) >= processes:
            break
    return found


def said(outcome: Outcome) -> str:
    return outcome.stdout.decode()


@requirement("gate.sandbox.confines", "capability.path.runtime_folder_closed")
@every_backend
async def test_the_self_test_gets_nothing_that_it_must_not_get(backend: str) -> None:
    finding = await self_test(lambda policy: run_in(backend, policy), plan.interpreter_places())
    assert (finding.missing, finding.breaches) == ("", ())


@requirement("gate.sandbox.confines")
@every_backend
def test_on_the_runtime_s_own_event_loop_it_gets_nothing_either(backend: str) -> None:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        finding = runner.run(self_test(lambda policy: run_in(backend, policy), plan.interpreter_places()))
    assert (finding.missing, finding.breaches) == ("", ())


@every_backend
def test_streams_are_pipes_on_the_runtime_s_own_event_loop_too(backend: str, root: Path) -> None:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        outcome = runner.run(ran(backend, root, "sh", "-c", "cat; test -p /dev/fd/1 && test -p /dev/fd/2", stdin=b"in"))
    assert said(outcome) == "in"
    if backend != LANDLOCK:  # which shows nothing of /proc
        assert outcome.exit_code == 0


async def test_a_program_is_talked_to_until_it_is_closed(root: Path) -> None:
    marker = f"5{os.getpid()}.25"
    script = f"setsid sleep {marker} & while read line; do echo got $line; head -c 1000000 /dev/zero >&2; done"
    policy = Policy(
        argv=("sh", "-c", script),
        root=str(root),
        cwd=str(root),
        environment=(("PATH", PATH),),
        limits=Limits(timeout_ms=60_000),
    )
    pipes = await Sandbox().open(policy)
    for word in (b"one", b"two"):
        await pipes.write(word + b"\n")
        assert await pipes.read(100) == b"got " + word + b"\n"
    await pipes.close()
    await pipes.close()
    assert await pipes.read(100) == b""
    assert running(marker) == []


@requirement("gate.sandbox.fail_closed", "gate.sandbox.confines")
async def test_the_self_test_notices_what_is_no_sandbox_and_then_nothing_is_run(root: Path) -> None:
    sandbox = Sandbox(backends=(HOST,))
    finding = await sandbox.finding(HOST)
    assert {"writes_outside", "reads_runtime_folder", "reads_environment", "tcp", "unix", "kills"} <= {
        *finding.breaches
    }
    policy = Policy(
        argv=("touch", f"{root}/src/new"),
        root=str(root),
        cwd=str(root),
        environment=(("PATH", PATH),),
        limits=Limits(timeout_ms=1_000),
    )
    with pytest.raises(NotConfined) as refused:
        await sandbox.run(policy)
    assert refused.value.step == "no_backend"
    assert not (root / "src/new").exists()


@every_backend
async def test_a_command_gets_its_words_its_input_and_its_variables_and_nothing_else(backend: str, root: Path) -> None:
    outcome = await ran(backend, root, "sh", "-c", "cat; pwd; env; echo no >&2; exit 3", stdin=b"given\n")
    first, place, *variables = said(outcome).splitlines()
    assert (first, place) == ("given", str(root))
    assert {one.partition("=")[0] for one in variables} == {"PATH", "GIVEN", "HOME", "TMPDIR", "PWD"}
    assert (outcome.exit_code, outcome.signal, outcome.ended_by) == (3, None, "itself")
    assert (outcome.stderr, outcome.backend) == (b"no\n", backend)


@every_backend
async def test_what_ends_by_a_signal_says_so(backend: str, root: Path) -> None:
    outcome = await ran(backend, root, "sh", "-c", "kill -9 $$")
    assert (outcome.exit_code, outcome.signal, outcome.ended_by) == (None, 9, "itself")


@requirement("gate.sandbox.confines")
@every_backend
async def test_only_the_write_scope_is_writable(backend: str, root: Path) -> None:
    script = (
        "echo new > src/new; echo new > src/code; rm -f docs/page; echo new > docs/page; mkdir made; mv docs src/; true"
    )
    await ran(backend, root, "sh", "-c", script)
    assert (root / "src/new").read_text() == (root / "src/code").read_text() == "new\n"
    assert (root / "docs/page").read_text() == "as it was"
    assert not (root / "made").exists()
    assert (root / "docs/page").exists()


@requirement("gate.sandbox.confines", "capability.path.runtime_folder_closed")
@every_backend
async def test_who_may_write_everything_still_gets_neither_the_runtime_folder_nor_what_git_starts(
    backend: str, root: Path
) -> None:
    script = """
        cat .handshake/secret; ls .handshake; echo x > .handshake/new; mv .handshake src/h; rm -rf .handshake
        echo x > .git/hooks/post-commit; echo x > .git/config; mv .git/hooks src/; mv .git src/git; rm -rf .git/hooks
        ln -s ../.handshake/secret src/link; cat src/link; echo new > .git/index; echo new > src/code"""
    outcome = await ran(backend, root, "sh", "-c", script, write=("**",))
    assert outcome.stdout == b""
    assert [one.name for one in (root / ".handshake").iterdir()] == ["secret"]
    assert (root / ".handshake/secret").read_text() == (root / ".git/config").read_text() == "as it was"
    assert list((root / ".git/hooks").iterdir()) == []
    assert (root / "src/code").read_text() == "new\n"


@requirement("gate.sandbox.confines")
@every_backend
async def test_what_is_denied_is_not_seen(backend: str, root: Path) -> None:
    outcome = await ran(backend, root, "sh", "-c", "cat private/key docs/page", hidden=("private",))
    assert said(outcome) == "as it was"
    assert b"private/key" in outcome.stderr


def leads_out(root: Path, above: Path) -> Path:
    outside = above / "outside"
    outside.write_text("secret")
    (root / "src/out").symlink_to(outside)
    (root / "linked").symlink_to(above)
    return outside


@requirement("capability.path.runtime_folder_closed")
@every_backend
async def test_what_an_operator_lets_be_read_does_not_open_the_runtime_folder_in_it(
    backend: str, root: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    policy = Policy(
        argv=("sh", "-c", f"cat {root}/docs/page {root}/.handshake/secret; ls {root}/.handshake"),
        root=str(work),
        cwd=str(work),
        environment=(("PATH", PATH),),
        limits=Limits(timeout_ms=20_000),
    )
    sandbox = Sandbox(backends=(backend,), read=(str(root),), hidden=(f"{root}/.handshake",))
    assert said(await sandbox.run(policy)) == "as it was"


@requirement("gate.sandbox.confines")
@every_backend
async def test_links_that_lead_out_of_the_workspace_lead_nowhere(backend: str, root: Path, tmp_path: Path) -> None:
    outside = leads_out(root, tmp_path)
    script = "cat src/out linked/outside; echo x > src/out; echo x > linked/new"
    outcome = await ran(backend, root, "sh", "-c", script, write=("src/**", "linked/**"))
    assert outcome.stdout == b""
    assert outside.read_text() == "secret"
    assert not (tmp_path / "new").exists()


@requirement("gate.sandbox.confines")
@every_backend
async def test_nothing_of_other_processes_is_seen(backend: str, root: Path) -> None:
    script = f"cat /proc/{os.getpid()}/environ /proc/{os.getppid()}/cmdline /proc/1/environ | tr '\\0' '\\n'"
    outcome = await ran(backend, root, "sh", "-c", script)
    seen = {one.partition("=")[0] for one in said(outcome).splitlines()}
    assert seen <= {"PATH", "GIVEN", "HOME", "TMPDIR", "PWD"}


@every_backend
async def test_a_program_that_is_not_there_is_not_started(backend: str, root: Path) -> None:
    with pytest.raises(NotConfined):
        await ran(backend, root, "no-such-program")


# ── The end ────────────────────────────────────────────────────────────────────────────────────────────────


@requirement("gate.sandbox.confines")
@every_backend
async def test_who_ignores_signals_is_killed(backend: str, root: Path) -> None:
    outcome = await ran(backend, root, "sh", "-c", "trap '' TERM HUP INT; while :; do :; done", timeout_ms=300)
    assert (outcome.ended_by, outcome.exit_code, outcome.signal) == ("timeout", None, 9)


@every_backend
async def test_who_is_out_of_time_is_asked_first(backend: str, root: Path) -> None:
    script = "trap 'echo tidied; exit 7' TERM; echo ready; while :; do sleep 0.01; done"
    outcome = await ran(backend, root, "sh", "-c", script, timeout_ms=500)
    assert (outcome.ended_by, outcome.exit_code, said(outcome)) == ("timeout", 7, "ready\ntidied\n")


@requirement("gate.sandbox.confines")
@every_backend
async def test_nothing_survives_its_command(backend: str, root: Path) -> None:
    marker = f"6{os.getpid()}.25"
    script = f"setsid sh -c 'trap \"\" TERM HUP; sleep {marker}' & (sleep {marker} &) ; nohup sleep {marker} & echo ok"
    outcome = await ran(backend, root, "sh", "-c", script)
    assert (said(outcome), outcome.ended_by) == ("ok\n", "itself")
    assert running(marker) == []


@requirement("gate.sandbox.confines")
@every_backend
async def test_a_fork_bomb_is_ended(backend: str, root: Path) -> None:
    marker = f"7{os.getpid()}.25"
    script = f"while :; do (trap '' TERM; sleep {marker}) & done"
    outcome = await ran(backend, root, "sh", "-c", script, processes=40)
    assert outcome.ended_by in ("processes", "itself")  # an ordinary user cannot make more, and the shell gives up
    assert running(marker) == []


@requirement("gate.sandbox.confines")
@every_backend
async def test_a_flood_of_output_is_ended_and_its_ends_are_kept(backend: str, root: Path) -> None:
    outcome = await ran(backend, root, "yes", "flood", drained_bytes=4 * MIB, kept_bytes=1_000)
    assert outcome.ended_by == "output"
    assert outcome.stdout.startswith(b"flood\nflood\n")
    assert outcome.left_out_bytes[0] > 3 * MIB
    assert len(outcome.stdout) < 1_100


@every_backend
async def test_beginning_and_end_of_long_output_are_kept(backend: str, root: Path) -> None:
    outcome = await ran(backend, root, "seq", "1", "100000", kept_bytes=200)
    assert said(outcome).startswith("1\n2\n")
    assert said(outcome).endswith("99999\n100000\n")


@requirement("gate.sandbox.confines")
@every_backend
async def test_one_file_is_not_endless(backend: str, root: Path) -> None:
    await ran(backend, root, "dd", "if=/dev/zero", "of=src/big", "bs=64k", "count=64", file_bytes=MIB)
    assert (root / "src/big").stat().st_size <= MIB


@requirement("gate.sandbox.confines")
@every_backend
async def test_many_files_do_not_fill_the_disk(backend: str, root: Path) -> None:
    script = "n=0; while [ $n -lt 2000 ]; do n=$((n+1)); dd if=/dev/zero of=src/$n bs=1M count=1 2>/dev/null; done"
    outcome = await ran(backend, root, "sh", "-c", script, disk_bytes=16 * MIB)
    assert outcome.ended_by == "disk"


@requirement("gate.sandbox.confines")
@every_backend
async def test_memory_is_bounded_also_where_it_is_shared(backend: str, root: Path) -> None:
    own = await ran(backend, root, PYTHON, "-I", "-S", "-c", "b'x' * (1 << 30)", memory_bytes=64 * MIB)
    assert own.exit_code != 0
    shared = "import mmap\nm = mmap.mmap(-1, 256 << 20)\nfor n in range(0, len(m), 4096): m[n] = 1\nwhile True: pass"
    outcome = await ran(backend, root, PYTHON, "-I", "-S", "-c", shared, memory_bytes=64 * MIB)
    assert outcome.ended_by == "memory"


@pytest.mark.parametrize("backend", [one for one in OFFERED if one != LANDLOCK])
async def test_the_private_folder_is_bounded_and_gone(backend: str, root: Path) -> None:
    script = "dd if=/dev/zero of=/tmp/big bs=1M count=8; wc -c < /tmp/big; ls /tmp"
    outcome = await ran(backend, root, "sh", "-c", script, scratch_bytes=2 * MIB)
    assert int(said(outcome).split()[0]) <= 2 * MIB
    assert not os.path.exists("/tmp/big")  # noqa: ASYNC240


@requirement("gate.sandbox.confines")
@every_backend
async def test_cancelling_ends_it_with_all_that_it_started(backend: str, root: Path) -> None:
    marker = f"8{os.getpid()}.25"
    script = f"(setsid sleep {marker} &); echo ready > src/ready; sleep {marker}"
    task = asyncio.create_task(ran(backend, root, "sh", "-c", script))
    await asyncio.to_thread(until_running, marker, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running(marker) == []


DYING = """
import asyncio, sys
from handshake.tools.sandbox.policy import Limits, Policy
from handshake.tools.sandbox.sandbox import run_in
backend, root, marker = sys.argv[1:]
script = f"trap '' TERM HUP; setsid sleep {marker} & sleep {marker}"
policy = Policy(argv=("sh", "-c", script), root=root, cwd=root, environment=(("PATH", "/usr/bin:/bin"),),
                limits=Limits(timeout_ms=60_000))
asyncio.run(run_in(backend, policy))
"""


@requirement("gate.sandbox.confines")
@every_backend
async def test_the_death_of_the_runtime_ends_it(backend: str, root: Path) -> None:
    marker = f"9{os.getpid()}.25"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", DYING, backend, str(root), marker)
    found = await asyncio.to_thread(until_running, marker, 3)
    ends = [os.pidfd_open(one) for one in found]
    process.kill()
    await process.wait()
    for one in ends:
        ready, _, _ = select.select([one], [], [], END_S)
        assert ready == [one]
        os.close(one)
    assert running(marker) == []
