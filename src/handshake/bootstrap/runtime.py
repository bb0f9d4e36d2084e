"""Runtime: a workspace that is open: its store, scheduler and doors, joined to the adapters of this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from handshake.bootstrap.described import closed_door, declarations_of, http_models, known_models, limits_of
from handshake.bootstrap.toolbox import Opened, Toolbox, ToolsFor, machine_tools, no_tools
from handshake.gate.egress import Egress
from handshake.kernel.checkpoint import VerifierKey
from handshake.kernel.configuration import Configuration, resolve
from handshake.kernel.errors import IntegrityBroken
from handshake.kernel.ids import CHANCE_BITS, JobId, ProviderId, SessionId, uuid7
from handshake.kernel.job import JobState
from handshake.kernel.lane import LANES
from handshake.kernel.layer import Layer, LayerName, from_environment, from_flags
from handshake.kernel.moment import rfc3339
from handshake.kernel.queue import RunQueue
from handshake.kernel.redaction import KnownValues
from handshake.kernel.settings import MIN_FREE_BYTES, Settings
from handshake.kernel.units import Microseconds
from handshake.operations import budgets
from handshake.operations.approvals import Approvals
from handshake.operations.declarations import declare
from handshake.operations.feed import LOST, AwaitingUser, Feeds, Over
from handshake.operations.keeping import Keeping
from handshake.operations.records import NewIds
from handshake.operations.runs import KnownModels
from handshake.operations.turns import Turns
from handshake.operations.unstored import Unstored
from handshake.operations.verdict import Progress, Verdict
from handshake.operations.verification import verify
from handshake.ports.clock import Clock
from handshake.ports.model import Model
from handshake.ports.store import Reader, Store
from handshake.runners.machine import MachineChance, MachineClock, new_event_loop
from handshake.scheduler import recovery
from handshake.scheduler.desk_expiry import DeskExpiry
from handshake.scheduler.dispatcher import Dispatcher
from handshake.storage import signing, workspace_folder
from handshake.storage.ballast import Ballast
from handshake.storage.config_file import account_home, home_folder, read_layer, user_file
from handshake.storage.files import OsFiles
from handshake.storage.instance_lock import Holder, InstanceLock, is_held, read_holder
from handshake.storage.readonly_store import ReadOnlyStore
from handshake.storage.schema import engine_version
from handshake.storage.secrets import Secrets
from handshake.storage.signing import SigningKey
from handshake.storage.sqlite_store import Place, SqliteStore, create, free_bytes_of
from handshake.storage.trusted_configs import ConfigTrust, TrustedConfigs, state_folders
from handshake.storage.workspace_folder import WorkspaceFolder

__all__ = [
    "ConfigTrust",
    "Configuration",
    "Holder",
    "ReadOnlyStore",
    "Runtime",
    "WorkspaceFolder",
    "ahead_us",
    "assemble",
    "close_runtime",
    "closed_door",
    "configure",
    "engine_version",
    "find_workspace",
    "has_room",
    "holder_of",
    "http_models",
    "init_workspace",
    "known_models",
    "limits_of",
    "new_event_loop",
    "now_us",
    "open_runtime",
    "read_only",
    "repair",
    "trusted_configs",
    "verifier_key",
    "verify_log",
]

LOG_NAME = "handshake.log/"
"""What the names of all logs begin with; the workspace's id follows."""


Models = Mapping[ProviderId, Model]
"""Adapters by provider."""


class Runtime(msgspec.Struct):
    """One running workspace: its store, scheduler, and doors to models and tools."""

    place: WorkspaceFolder
    configuration: Configuration
    store: Store
    queue: RunQueue
    dispatcher: Dispatcher
    turns: Turns
    egress: Egress
    feeds: Feeds
    clock: Clock
    new_id: NewIds
    expiry: DeskExpiry
    known_models: KnownModels
    lock: InstanceLock | None
    tools: Opened
    approvals: Approvals

    @property
    def settings(self) -> Settings:
        """The effective configuration."""
        return self.configuration.settings


def configure(root: Path | None, flags: Mapping[str, str] | None = None) -> Configuration:
    """Return the configuration from all layers (07 §1); `root` is the workspace's folder, if there is one.

    A workspace's configuration that this user neither made nor accepted may only tighten limits.

    Raises:
        InvalidConfig: a key, type or range is wrong, or a layer is looser than one before it.
    """
    layers: list[Layer] = [read_layer(user_file(os.environ, home_folder()), LayerName.USER)]
    if root is not None:
        layers.append(trusted_configs().look(WorkspaceFolder(root)).layer)
    layers += [from_environment(os.environ), from_flags(flags or {})]
    return resolve(layers)


def _state_folder() -> Path:
    return state_folders(os.environ, home_folder(), account_home())[0].parent


def trusted_configs() -> TrustedConfigs:
    """Return the records of which configurations this user made or accepted."""
    return TrustedConfigs(state_folders(os.environ, home_folder(), account_home()), MachineChance())


def init_workspace(root: Path) -> WorkspaceFolder:
    """Make a workspace: folders, key and database, whole or not at all.

    Raises:
        StateConflict: there is one.
        StoreFailed: it cannot be made.
    """
    clock, chance, files = MachineClock(), MachineChance(), OsFiles()
    brought = WorkspaceFolder(root).config.exists()
    workspace_id = uuid7(clock.now_us(), chance.bits(CHANCE_BITS))

    def build(draft: WorkspaceFolder) -> None:
        key = SigningKey.create(draft.keys, LOG_NAME + workspace_id, files=files, chance=chance)
        signing.publish(key, draft.keys, files=files)
        create(Place(draft.database, draft.artifacts), workspace_id, clock.now_us())
        draft.database.chmod(0o600)  # what SQLite makes beside it has the same mode
        if not brought:
            trusted_configs().remember_own(draft, WorkspaceFolder(root.absolute()))

    return workspace_folder.init(root, build, workspace_id)


def find_workspace(start: Path) -> WorkspaceFolder:
    """Return the workspace of `start` or the nearest folder above it.

    Raises:
        NotFound: there is none.
        InvalidConfig: `start` is not a folder.
        StoreFailed: it is on a network file system.
    """
    return workspace_folder.find(start)


def holder_of(place: WorkspaceFolder) -> Holder | None:
    """Return who holds the workspace now, or None if nobody does."""
    return read_holder(place.lock) if is_held(place.lock) else None


def now_us() -> Microseconds:
    """Return the machine's time, for those who only read."""
    return MachineClock().now_us()


def ahead_us(place: WorkspaceFolder) -> int:
    """Return by how many microseconds the last stored moment is ahead of the machine's clock, or 0.

    Raises:
        IntegrityBroken, StoreFailed: the store cannot be read.
    """
    _, high_us = _identity(read_only(place))
    return max(0, high_us - now_us())


def has_room(place: WorkspaceFolder) -> bool:
    """Return whether the disk has more room left than the reserve for outcomes."""
    return free_bytes_of(place.folder) >= MIN_FREE_BYTES


def verifier_key(place: WorkspaceFolder) -> VerifierKey:
    """Return the public key that verifies the workspace's log; the private one is not opened.

    Raises:
        NotFound: the key is missing.
        IntegrityBroken: it is no key, or another log's.
    """
    workspace_id, _ = _identity(read_only(place))
    return signing.load_verifier_key(place.keys, LOG_NAME + workspace_id, files=OsFiles())


def verify_log(
    place: WorkspaceFolder,
    *,
    key: VerifierKey | None = None,
    anchor: bytes | None = None,
    deep: bool = False,
    progress: Progress | None = None,
) -> Verdict:
    """Return what a verification of the workspace's log finds, as `operations.verification.verify`.

    Args:
        place: the workspace; a runtime may be working in it.
        key: whose signatures count; by default the workspace's own, which whoever can write the log can replace too.
        anchor: an exported checkpoint that the log must continue.
        deep: also look at schemas, messages and artifacts.
        progress: told how far it is.
    """
    store = read_only(place)
    try:
        known = key or verifier_key(place)
        return verify(store.read_now, known, signing.verify, progress=progress, anchor=anchor, deep=deep)
    finally:
        store.shut()


def read_only(place: WorkspaceFolder) -> ReadOnlyStore:
    """Return a reader of the workspace that works beside a running runtime."""
    return ReadOnlyStore(Place(place.database, place.artifacts), files=OsFiles())


async def open_runtime(
    place: WorkspaceFolder,
    configuration: Configuration,
    *,
    models: Models | None = None,
    tools_for: ToolsFor | None = None,
    dispatch: bool = True,
) -> Runtime:
    """Open a workspace for work: lock it, recover what a dead runtime left, and begin to dispatch.

    Args:
        place: the workspace.
        configuration: its effective settings.
        models: adapters in place of the ones that the settings describe, as tests and cassettes hand in.
        tools_for: tools in place of those that ship, likewise.
        dispatch: whether queued runs start; commands that only change state say no.

    Raises:
        StateConflict: another runtime holds the workspace.
        IntegrityBroken: database, key or log do not fit together.
        StoreFailed: the store cannot be opened.
    """
    held = _hold(place, configuration.settings, dispatch=dispatch)
    try:
        return await assemble(
            place,
            configuration,
            held.store,
            held.clock,
            held.new_id,
            models if models is not None else http_models(configuration.settings, held.clock, held.secrets),
            held.lock,
            dispatch=dispatch,
            tools_for=tools_for
            or machine_tools(place, configuration.settings, held.clock, held.secrets, _state_folder()),
        )
    except BaseException:
        await held.close()
        raise


async def repair(place: WorkspaceFolder, configuration: Configuration) -> list[SessionId]:
    """Let sessions that somebody changed by hand count the runs that they have; return which these were.

    Raises:
        StateConflict: a runtime holds the workspace.
        IntegrityBroken, StoreFailed: it cannot be opened.
    """
    held = _hold(place, configuration.settings, dispatch=False)
    try:
        found: list[SessionId] = []
        while counted := await held.store.write(recovery.recount):
            found += counted
        return found
    finally:
        await held.close()


class _Held(msgspec.Struct):
    """A workspace that this process holds: its lock, its open store, and what both were opened with."""

    store: Store
    clock: Clock
    new_id: NewIds
    secrets: Secrets
    lock: InstanceLock

    async def close(self) -> None:
        await self.store.close()
        self.lock.release()


def _hold(place: WorkspaceFolder, settings: Settings, *, dispatch: bool) -> _Held:
    """Lock a workspace and open its store, with ballast for outcomes if runs are carried out."""
    clock, chance, files = MachineClock(), MachineChance(), OsFiles()
    holder = Holder(os.getpid(), rfc3339(clock.now_us()), Path(sys.argv[0] or "python").name[:64])
    workspace_folder.require_private(place)
    lock = InstanceLock(place.lock, holder)
    try:
        found = Place(place.database, place.artifacts)
        workspace_id, high_us = _identity(ReadOnlyStore(found, files=files, any_age=True))
        clock.raise_to(high_us)
        key = SigningKey.load(place.keys, LOG_NAME + workspace_id, files=files)
        known = KnownValues()
        secrets = Secrets(known)
        secrets.look_up(entry.credential for entry in settings.providers.values() if entry.credential)
        secrets.look_up(one for server in settings.mcp.servers.values() for one in server.references)
        run = place.ballast.parent
        ballast = Ballast(files, place.ballast, run / "ballast.new", run) if dispatch else None
        store = SqliteStore(
            found,
            files=files,
            clock=clock,
            chance=chance,
            key=key,
            recorder=settings.recorder,
            known=known,
            ballast=ballast,
        )
    except BaseException:
        lock.release()
        raise
    return _Held(store, clock, NewIds(clock, chance), secrets, lock)


async def assemble(
    place: WorkspaceFolder,
    configuration: Configuration,
    store: Store,
    clock: Clock,
    new_id: NewIds,
    models: Models,
    lock: InstanceLock | None,
    *,
    dispatch: bool,
    tools_for: ToolsFor = no_tools,
) -> Runtime:
    """Join a store, models and tools to a scheduler; the simulator hands in its own."""
    settings = configuration.settings
    toolbox = Toolbox(store, clock, new_id, settings, tools_for)
    queue = RunQueue(limits_of(settings), {lane: settings.scheduler.lane_weights.of(lane) for lane in LANES})
    epoch = await recovery.recover(store, queue, settings, new_id, toolbox.approvals)
    declared = declarations_of(settings)
    if declared:
        await store.write(lambda tx: declare(tx, declared), outcome=True)
    await store.write(lambda tx: budgets.configure(tx, settings.budgets), outcome=True)
    unstored = Unstored()
    feeds = Feeds()

    def over(job_id: JobId) -> None:
        feeds.push(job_id, Over(JobState.FAILED))

    dispatcher = Dispatcher(queue, clock, epoch, over=over, unstored=unstored)
    egress = Egress(models, dispatcher.is_running)
    keeping = Keeping(store, unstored, clock)
    expiry = DeskExpiry(store, queue, clock, over, toolbox.approvals)
    tools = await toolbox.open(queue, feeds, keeping, epoch, expiry.look)
    turns = Turns(store, queue, egress, feeds, clock, new_id, keeping, settings, epoch, tools.turns)
    store.follow(dispatcher)
    runtime = Runtime(
        place,
        configuration,
        store,
        queue,
        dispatcher,
        turns,
        egress,
        feeds,
        clock,
        new_id,
        expiry,
        known_models(settings),
        lock,
        tools,
        toolbox.approvals,
    )
    if dispatch:
        dispatcher.asked = expiry.look
        dispatcher.stalled = lambda job_id: feeds.push(job_id, AwaitingUser(LOST))
        dispatcher.cancelled = lambda job_id: feeds.push(job_id, Over(JobState.CANCELLED))
        await dispatcher.open(
            store, turns.perform, recovery.giving_up(queue, recovery.Policy.of(settings), epoch, new_id)
        )
        await expiry.look()
    return runtime


async def close_runtime(runtime: Runtime, *, drain_us: Microseconds) -> None:
    """Stop: start nothing more, let runs finish for `drain_us`, hand the rest back to the queue, and close."""
    runtime.expiry.close()
    try:
        try:
            await runtime.dispatcher.close(drain_us, before_cut=runtime.turns.stop)
        finally:
            try:
                await runtime.egress.close()
            finally:
                await runtime.tools.close()
    finally:
        runtime.feeds.close()
        try:
            await runtime.store.close()
        finally:
            if runtime.lock is not None:
                runtime.lock.release()


def _identity(store: ReadOnlyStore) -> tuple[str, int]:
    """Return the workspace's id and the last moment that it stored."""

    def look(reader: Reader) -> tuple[str, int]:
        row, last = reader.row("workspace_get"), reader.row("event_last_at")
        if row is None:
            raise IntegrityBroken(subject="database", reason="no_workspace")
        return str(row[0]), int(last[0] or 0) if last else 0

    try:
        return store.read_now(look)
    finally:
        store.shut()
