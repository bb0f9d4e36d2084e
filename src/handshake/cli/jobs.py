"""Jobs: the commands about runs: what became of them, what they left, and how to end one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from handshake.cli import place, shapes
from handshake.cli.command import Invocation, noun, verb
from handshake.cli.paging import after_option, limit_option
from handshake.cli.rendering import print_object, print_objects, print_record, print_table, print_text

if TYPE_CHECKING:
    from handshake.kernel.job import Job
    from handshake.ports.store import Reader

job = noun("job", "Look at runs, also ended ones, and cancel them.", example="handshake job list")


@verb(job, "list", example="handshake job list --state failed\nhandshake job list --session SESSION_ID --json")
@click.option("--session", "session_id", metavar="ID", help="Only runs of this session.")
@click.option("--state", help="Only runs in this state.")
@limit_option
@after_option("enqueue_seq")
def list_(invocation: Invocation, session_id: str | None, state: str | None, limit: int, after: int) -> None:
    """List runs in order of acceptance, ended ones with state and reason."""
    from handshake.kernel.ids import SessionId
    from handshake.kernel.job import JobState
    from handshake.operations import naming, records, views

    wanted = None if state is None else naming.choice(JobState, "state", state)

    def look(reader: Reader) -> list[Job]:
        of = None if session_id is None else records.session(reader, SessionId(session_id)).session_id
        return views.jobs(reader, after=after, limit=limit, session_id=of, state=wanted)

    found = place.read(invocation, look)
    if invocation.as_json:
        print_objects(map(shapes.job, found))
        return
    print_table(
        ("NUMBER", "JOB", "SESSION", "LANE", "STATE", "ATTEMPT", "TOKENS", "REASON", "CODE"),
        (
            (
                one.enqueue_seq,
                one.job_id,
                one.session_id,
                one.lane,
                one.state,
                one.attempt,
                one.total_tokens,
                one.reason,
                one.error_code,
            )
            for one in found
        ),
    )


@verb(job, "show", example="handshake job show JOB_ID")
@click.argument("job_id", metavar="ID")
def show(invocation: Invocation, job_id: str) -> None:
    """Show one run."""
    from handshake.kernel.ids import JobId
    from handshake.operations import records

    found = shapes.job(place.read(invocation, lambda reader: records.job(reader, JobId(job_id))))
    if invocation.as_json:
        print_object(found)
    else:
        print_record(found)


@verb(job, "artifacts", example="handshake job artifacts JOB_ID\nhandshake job artifacts JOB_ID --print ARTIFACT_ID")
@click.argument("job_id", metavar="ID")
@click.option("--print", "wanted", metavar="ARTIFACT_ID", help="Print the bytes of one of them instead.")
def artifacts(invocation: Invocation, job_id: str, wanted: str | None) -> None:
    """List what a run's attempts left besides the answer: partial text, a provider's error body."""
    from handshake.kernel.errors import NotFound
    from handshake.kernel.ids import ArtifactId, JobId
    from handshake.operations import views

    found = place.read(invocation, lambda reader: views.job_artifacts(reader, JobId(job_id)))
    if wanted is not None:
        if wanted not in {one.artifact_id for one in found}:
            raise NotFound(kind="artifact", job_id=job_id, artifact_id=wanted)
        text = place.read(invocation, lambda reader: views.text_of(reader, ArtifactId(wanted)))
        if invocation.as_json:
            print_object({"job_id": job_id, "artifact_id": wanted, "text": text})
        else:
            print_text(text)
        return
    if invocation.as_json:
        print_objects(map(shapes.artifact, found))
        return
    print_table(("ATTEMPT", "KIND", "ARTIFACT"), ((one.attempt, one.kind, one.artifact_id) for one in found))


@verb(job, "cancel", example="handshake job cancel JOB_ID")
@click.argument("job_id", metavar="ID")
@click.option("--reason", default="operator", show_default=True, help="A word that the events will carry.")
def cancel(invocation: Invocation, job_id: str, reason: str) -> None:
    """Cancel a run, whatever it is doing; the session goes on."""
    ended = place.change(invocation, lambda workspace: workspace.cancel_job(job_id, reason=reason))
    if invocation.as_json:
        print_object({"job_id": job_id, "cancelled": ended.cancelled, "may_have_left": ended.may_have_left})
    else:
        click.echo(f"{job_id} cancelled")
