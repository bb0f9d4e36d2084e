"""References: the artifacts that a session may read: those that its own rows refer to.

Source:
    capability.artifact.by_reference_only (02 §1).
"""

from __future__ import annotations

from handshake.kernel.ids import ArtifactId, SessionId, is_sha256
from handshake.ports.store import Reader


def own_artifact(reader: Reader, session_id: SessionId, artifact_id: ArtifactId) -> bytes | None:
    """Return an artifact to which a message, run or tool call of the session refers, or None.

    Raises:
        IntegrityBroken: the stored bytes do not have this hash.
    """
    if not is_sha256(artifact_id):
        return None
    own = reader.row("session_artifact", {"session_id": session_id, "artifact_id": artifact_id})
    return None if own is None else reader.artifact(artifact_id)
