"""Audit: the commands that check the log, sign it, and export proofs from it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Self

import click

from handshake.cli import place
from handshake.cli.border import EXIT_INTEGRITY
from handshake.cli.command import Invocation, noun, verb
from handshake.cli.rendering import is_terminal, print_object
from handshake.cli.shapes import Shape
from handshake.kernel.errors import InvalidRequest, StateConflict, TooLarge

if TYPE_CHECKING:
    from handshake.kernel.checkpoint import VerifierKey
    from handshake.operations.verdict import Verdict
    from handshake.workspace import Workspace

audit = noun(
    "audit",
    "Check that the log is whole, sign it, and prove to others what it holds.",
    example="handshake audit verify",
)

MAX_FILE_BYTES = 128 * 1024
"""Largest key or checkpoint file that is read: a note may have no more."""


@verb(audit, "verify", example="handshake audit verify\nhandshake audit verify --deep --against checkpoint.txt")
@click.option("--deep", is_flag=True, help="Also look at schemas, and at messages and artifacts that events tell of.")
@click.option(
    "--against",
    type=click.File("rb"),
    metavar="FILE",
    help="A checkpoint exported earlier: then also what was cut off or signed anew since shows.",
)
@click.option(
    "--key",
    "key_file",
    type=click.File("rb"),
    metavar="FILE",
    help="The log's public key, kept elsewhere; without it the workspace's own is taken.",
)
def verify(invocation: Invocation, deep: bool, against: BinaryIO | None, key_file: BinaryIO | None) -> int:
    """Walk the whole log, recompute every hash, and name the first event that does not fit.

    Works beside a running process. The exit code is 6 if anything is broken.
    """
    from handshake.bootstrap import verify_log

    anchor = None if against is None else _bounded("against", against)
    key = None if key_file is None else _key(key_file)
    found = place.find(invocation)
    with _Progress(quiet=invocation.as_json) as progress:
        verdict = verify_log(found, key=key, anchor=anchor, deep=deep, progress=progress.tell)
    if invocation.as_json:
        print_object(verdict_shape(verdict))
    else:
        for line in verdict_lines(verdict):
            click.echo(line)
    return 0 if verdict.sound else EXIT_INTEGRITY


@verb(audit, "checkpoint", example="handshake audit checkpoint > checkpoint.txt")
@click.option(
    "--last", is_flag=True, help="Print the last checkpoint and sign nothing; works beside a running process."
)
def checkpoint(invocation: Invocation, last: bool) -> None:
    """Sign the log as it is now and print the checkpoint, to be kept where this machine cannot reach it."""
    from handshake.operations import audit as operations

    if not last:

        async def operation(workspace: Workspace) -> None:
            await workspace.runtime.store.write(operations.sign_checkpoint)

        place.change(invocation, operation)
    signed = place.read(invocation, operations.last_checkpoint)
    if signed is None:
        raise StateConflict(
            subject="log", reason="not_signed", hint="nothing was signed yet: handshake audit checkpoint"
        )
    if invocation.as_json:
        print_object(_checkpoint_shape(invocation, signed))
    else:
        click.echo(signed, nl=False)


@verb(
    audit, "prove", example="handshake audit prove 1 > event-1.tlog-proof\nhandshake audit prove --since checkpoint.txt"
)
@click.argument("seq", type=int, required=False)
@click.option(
    "--since", type=click.File("rb"), metavar="FILE", help="Prove instead that the log continues this checkpoint."
)
def prove(invocation: Invocation, seq: int | None, since: BinaryIO | None) -> None:
    """Print a proof that event SEQ is in the signed log; tools that know the tlog-proof format accept it."""
    from handshake.operations import proofs

    if since is not None and seq is None:
        old = _bounded("since", since)
        proof = place.read(invocation, lambda reader: proofs.consistency(reader, old))
        told: Shape = {"proof": proof.decode()}
    elif seq is not None and since is None:
        proof = place.read(invocation, lambda reader: proofs.prove(reader, seq))
        told = {"seq": seq, "proof": proof.decode()}
    else:
        raise InvalidRequest(field="seq", reason="seq_or_since", hint="give either SEQ or --since FILE")
    if invocation.as_json:
        print_object(told)
    else:
        click.echo(proof, nl=False)


def verdict_shape(verdict: Verdict) -> Shape:
    """Return what a verification found, as programs read it."""
    broken = verdict.broken
    return {
        "verified": verdict.sound,
        "events": verdict.size,
        "verified_events": verdict.verified,
        "signed_events": verdict.signed_size,
        "unsigned_events": verdict.unsigned_tail,
        "checkpoints": verdict.checkpoints,
        "anchored_events": verdict.anchored_size,
        "deep": verdict.deep,
        "broken": None
        if broken is None
        else {
            "damage": broken.damage,
            "seq": broken.seq,
            "last_seq": broken.last_seq,
            "what": broken.what,
            "artifact_id": broken.artifact_id,
        },
    }


def verdict_lines(verdict: Verdict) -> list[str]:
    """Return what a verification found, as people read it."""
    broken = verdict.broken
    if broken is not None:
        where = f"event {broken.seq}" if broken.last_seq <= broken.seq else f"events {broken.seq} to {broken.last_seq}"
        artifact = f", artifact {broken.artifact_id}" if broken.artifact_id else ""
        return [
            f"BROKEN: {where} {broken.damage.value} ({broken.what}{artifact})",
            f"verified {verdict.verified} of {verdict.size} events before it",
            "next: keep a copy of the workspace as it is, and compare with an exported checkpoint (--against)",
        ]
    lines = [
        f"verified {verdict.size} events",
        f"signed: {verdict.signed_size} events by {verdict.checkpoints} checkpoints; {verdict.unsigned_tail} follow",
    ]
    if verdict.anchored_size is not None:
        lines.append(f"continues the exported checkpoint of {verdict.anchored_size} events")
    return lines


def _checkpoint_shape(invocation: Invocation, signed: bytes) -> Shape:
    from handshake.bootstrap import verifier_key
    from handshake.kernel.checkpoint import parse_body, parse_note

    content = parse_body(parse_note(signed).body)
    return {
        "origin": content.origin,
        "tree_size": content.size,
        "root_hash": content.root.hex(),
        "note": signed.decode(),
        "verifier_key": verifier_key(place.find(invocation)).text(),
    }


def _key(file: BinaryIO) -> VerifierKey:
    from handshake.kernel.checkpoint import VerifierKey

    return VerifierKey.parse(_bounded("key", file).decode("utf-8", errors="replace").strip())


def _bounded(field: str, file: BinaryIO) -> bytes:
    data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise TooLarge(field=field, limit_bytes=MAX_FILE_BYTES)
    return data


class _Progress:
    """A bar on standard error while a terminal watches."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet or not is_terminal(sys.stderr)
        self.tell: Callable[[int, int], None] | None = None

    def __enter__(self) -> Self:
        if not self._quiet:
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            task = self._bar.add_task("verifying")
            self._bar.start()
            self.tell = lambda verified, size: self._bar.update(task, completed=verified, total=size)
        return self

    def __exit__(self, *_: object) -> None:
        if not self._quiet:
            self._bar.stop()
