"""Handshake: a governed runtime for many language-model sessions on one workspace.

Model calls are queued work under session-scoped authority, and evidence commits in the same
transaction as the state it is evidence for.
"""
