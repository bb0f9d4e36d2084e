"""Doctor: looks at what a workspace needs, and says for each finding what to do next."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from handshake.cli import place
from handshake.cli.border import EXIT_FAILED
from handshake.cli.command import Invocation, verb
from handshake.cli.rendering import one_line, print_object
from handshake.kernel.errors import HandshakeError, NotFound
from handshake.kernel.settings import MAX_PAGE_ITEMS, MIN_FREE_BYTES
from handshake.kernel.units import US_PER_S

if TYPE_CHECKING:
    from handshake.bootstrap import Configuration, WorkspaceFolder
    from handshake.kernel.settings import ProviderSettings, Settings

REACH_LIMIT_S = 2
"""How long one provider may take to answer, in seconds."""
_ANY_MODEL = "any"
"""Stands for a model where only the endpoint matters."""
_PERMISSIONS = "permissions"
_OF_OTHERS = 0o077
_MIB = 1024 * 1024
_LISTED = 3
"""Sessions that a finding names."""


class Verdict(StrEnum):
    """How a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(NamedTuple):
    """One thing that was looked at; `next_step` says what to do about it."""

    subject: str
    verdict: Verdict
    detail: str
    next_step: str | None = None


@verb(None, "doctor", example="handshake doctor\nhandshake doctor --repair")
@click.option("--repair", is_flag=True, help="First let sessions that were changed by hand count their runs anew.")
def doctor(invocation: Invocation, repair: bool) -> int:
    """Look at engine, workspace, configuration and providers, and say what to do next.

    Providers on this machine, and those declared to be yours, are asked whether they answer; clouds are not. The exit
    code is 1 if anything fails.
    """
    findings = [*(_repair(invocation) if repair else ()), *_look(invocation)]
    healthy = all(one.verdict is not Verdict.FAIL for one in findings)
    if invocation.as_json:
        print_object({"healthy": healthy, "findings": [one._asdict() for one in findings]})
        return 0 if healthy else EXIT_FAILED
    width = max(len(one.subject) for one in findings)
    for one in findings:
        click.echo(f"{one.verdict.value:<4}  {one.subject:<{width}}  {one_line(one.detail)}")
        if one.next_step:
            click.echo(f"{'':<4}  {'':<{width}}  next: {one_line(one.next_step)}")
    return 0 if healthy else EXIT_FAILED


def _repair(invocation: Invocation) -> Iterator[Finding]:
    """Count anew what can be counted; evidence is never repaired."""
    import asyncio

    from handshake.bootstrap import configure, repair

    found = place.find(invocation)
    counted = asyncio.run(repair(found, configure(found.root)))
    yield Finding("repair", Verdict.OK, f"{len(counted)} sessions counted anew{_listed(counted)}")


def _look(invocation: Invocation) -> Iterator[Finding]:
    import asyncio

    import msgspec

    from handshake.bootstrap import configure, engine_version

    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("engine", Verdict.OK, f"Python {python}, SQLite {engine_version()}")
    yield asyncio.run(_sandbox())
    root: Path | None = None
    is_own = True
    try:
        found = place.find(invocation)
    except HandshakeError as missing:
        verdict = Verdict.WARN if isinstance(missing, NotFound) else Verdict.FAIL
        yield Finding("workspace", verdict, str(missing), missing.hint)
    else:
        root = found.root
        for finding in _workspace(found):
            is_own = is_own and (finding.subject, finding.verdict) != (_PERMISSIONS, Verdict.FAIL)
            yield finding
    try:
        configuration = configure(root)
    except HandshakeError as wrong:
        yield _failed("configuration", wrong)
        return
    settings = configuration.settings
    yield _configuration(configuration)
    for name, entry in sorted(settings.providers.items()):
        # What others can write may come from them: it does not say who gets which credential.
        asked = entry if is_own else msgspec.structs.replace(entry, credential=None)
        yield asyncio.run(_provider(settings, name, asked))


async def _sandbox() -> Finding:
    """Return how commands of sessions are confined, after really trying to get out."""
    from handshake.bootstrap import sandbox_findings

    found = await sandbox_findings()
    good = [name for name, against in found.items() if not against]
    if good:
        return Finding("sandbox", Verdict.OK, f"commands run in {good[0]}; self-test passed: {', '.join(good)}")
    against = "; ".join(f"{name}: {', '.join(reasons[:_LISTED])}" for name, reasons in found.items())
    return Finding(
        "sandbox",
        Verdict.WARN,
        f"none passes its self-test, so commands are denied ({against})",
        "install bubblewrap, or let this user make namespaces: docs/how-to/run-commands.md",
    )


def _workspace(found: WorkspaceFolder) -> Iterator[Finding]:
    from handshake.bootstrap import verifier_key

    yield Finding("workspace", Verdict.OK, str(found.root))
    yield _permissions(found)
    yield _free_space(found)
    yield _holder(found)
    store = _try("store", lambda: _store(found))
    yield store
    if store.verdict is Verdict.OK:
        yield _counts(found)
        yield _clock(found)
    yield _try("log key", lambda: verifier_key(found).text())


def _permissions(found: WorkspaceFolder) -> Finding:
    try:
        paths = (found.folder, *found.folder.iterdir(), *found.keys.iterdir())
        open_to_others = sorted(path.name for path in paths if path.lstat().st_mode & _OF_OTHERS)
    except OSError as broken:
        detail = f"cannot be looked at: {type(broken).__name__}"
        return Finding(_PERMISSIONS, Verdict.FAIL, detail, f"bring back what is missing in {found.folder}")
    if open_to_others:
        return Finding(
            _PERMISSIONS,
            Verdict.FAIL,
            f"others may enter: {', '.join(open_to_others)}",
            f"chmod -R go-rwx {found.folder}",
        )
    return Finding(_PERMISSIONS, Verdict.OK, "only you may enter")


def _free_space(found: WorkspaceFolder) -> Finding:
    free = shutil.disk_usage(found.folder).free
    detail = f"{free // _MIB} MiB free"
    if free < MIN_FREE_BYTES:
        return Finding(
            "disk", Verdict.FAIL, detail, f"free some: below {MIN_FREE_BYTES // _MIB} MiB nothing is accepted"
        )
    if free < 10 * MIN_FREE_BYTES:
        return Finding("disk", Verdict.WARN, detail, f"below {MIN_FREE_BYTES // _MIB} MiB nothing new is accepted")
    return Finding("disk", Verdict.OK, detail)


def _holder(found: WorkspaceFolder) -> Finding:
    from handshake.bootstrap import holder_of

    holder = holder_of(found)
    if holder is None:
        return Finding("lock", Verdict.OK, "nobody holds the workspace")
    return Finding("lock", Verdict.OK, f"held by process {holder.pid} ({holder.program}) since {holder.started_at}")


def _store(found: WorkspaceFolder) -> str:
    from handshake.bootstrap import read_only
    from handshake.operations import views

    store = read_only(found)
    try:
        whole = store.read_now(views.workspace)
    finally:
        store.shut()
    return f"{whole.events} events, {sum(whole.sessions.values())} sessions, {sum(whole.jobs.values())} runs"


def _counts(found: WorkspaceFolder) -> Finding:
    """Return whether sessions count the runs that they have; one that does not keeps the workspace shut."""
    from handshake.bootstrap import read_only

    store = read_only(found)
    try:
        rows = store.read_now(lambda reader: reader.rows("session_miscounted", {"all": 1, "limit": MAX_PAGE_ITEMS}))
    finally:
        store.shut()
    if not rows:
        return Finding("sessions", Verdict.OK, "each counts the runs that it has")
    return Finding(
        "sessions",
        Verdict.FAIL,
        f"{len(rows)} count other runs than they have{_listed([row[0] for row in rows])}",
        "somebody changed the database by hand; count anew and tell the log: handshake doctor --repair",
    )


def _listed(names: Sequence[object]) -> str:
    """Return the first of some names as the end of a sentence."""
    return ": " + ", ".join(map(str, names[:_LISTED])) + (" ..." if len(names) > _LISTED else "") if names else ""


def _clock(found: WorkspaceFolder) -> Finding:
    from handshake.bootstrap import ahead_us

    ahead_s = ahead_us(found) // US_PER_S
    if ahead_s:
        return Finding(
            "clock",
            Verdict.WARN,
            f"{ahead_s} s behind what was stored last",
            "set the machine's clock; until it has caught up, time in this workspace goes on at half the pace",
        )
    return Finding("clock", Verdict.OK, "not behind what was stored last")


def _configuration(configuration: Configuration) -> Finding:
    settings = configuration.settings
    detail = f"{len(settings.providers)} providers, {len(settings.aliases)} aliases"
    if configuration.left_out:
        detail += (
            f"; {len(configuration.left_out)} keys of .handshake/config.toml do not count: you have not accepted them"
        )
        return Finding("configuration", Verdict.WARN, detail, "look at them, and accept them: handshake policy trust")
    if settings.providers:
        return Finding("configuration", Verdict.OK, detail)
    return Finding("configuration", Verdict.WARN, detail, "name a provider in .handshake/config.toml: three lines do")


async def _provider(settings: Settings, name: str, entry: ProviderSettings) -> Finding:
    """Return where a provider is and whether it answers, through the same door as every call."""
    import asyncio

    import msgspec

    from handshake.bootstrap import closed_door
    from handshake.kernel.ids import ModelId, ProviderId
    from handshake.kernel.job import Backend

    subject = f"provider {name}"
    model = next(iter(entry.models), _ANY_MODEL)
    try:
        door = closed_door(msgspec.structs.replace(settings, providers={name: entry}))
        try:
            async with asyncio.timeout(REACH_LIMIT_S):
                backend = await door.backend(ProviderId(name), ModelId(model))
        finally:
            await door.close()
    except TimeoutError:
        return Finding(
            subject, Verdict.FAIL, f"no answer in {REACH_LIMIT_S} s from {entry.base_url}", "start the engine"
        )
    except HandshakeError as wrong:
        return _failed(subject, wrong)
    if backend is Backend.CLOUD:
        return Finding(
            subject,
            Verdict.WARN,
            f"cloud, not contacted: {entry.base_url}",
            "calls to a cloud need a person's consent and are refused without; use a local provider",
        )
    return Finding(subject, Verdict.OK, f"local and answering: {entry.base_url}")


def _try(subject: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, Verdict.OK, look())
    except HandshakeError as wrong:
        return _failed(subject, wrong)


def _failed(subject: str, wrong: HandshakeError) -> Finding:
    return Finding(subject, Verdict.FAIL, str(wrong), wrong.hint)
