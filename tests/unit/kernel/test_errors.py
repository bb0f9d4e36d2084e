"""Errors: only leaves are raised, codes are those of the specification, and no context carries content."""

from __future__ import annotations

import ast
import inspect

import pytest

from handshake.kernel import errors
from handshake.kernel.errors import (
    MAX_VALUE_CHARS,
    MAX_VALUE_ITEMS,
    NOTICES,
    Conflict,
    HandshakeError,
    Integrity,
    InvalidRequest,
    NotFound,
    Refused,
    Request,
    Unavailable,
    catalogue,
)

FAMILIES = (Request, Refused, Conflict, Unavailable, Integrity)

# Code and HTTP status as the specification lists them (08).
TABLE = {
    "HSK-400-INVALID-EVENT": 500,
    "HSK-400-INVALID-BASE-URL": 400,
    "HSK-400-INVALID-CONFIG": 400,
    "HSK-400-INVALID-REQUEST": 400,
    "HSK-401-UNAUTHENTICATED": 401,
    "HSK-402-BUDGET-EXCEEDED": 402,
    "HSK-403-CAPABILITY": 403,
    "HSK-4001": 400,
    "HSK-403-CLOUD-CONSENT-REQUIRED": 403,
    "HSK-403-CLOUD-CONSENT-MISMATCH": 403,
    "HSK-403-CLOUD-ESCALATION-DENIED": 403,
    "HSK-403-GOVERNANCE-LOCKED": 403,
    "HSK-403-SSRF-BLOCKED": 403,
    "HSK-403-SYSTEM-PROVENANCE": 403,
    "HSK-403-PROVENANCE": 403,
    "HSK-403-UNREDACTABLE": 403,
    "HSK-403-CROSS-SESSION": 403,
    "HSK-403-SPAWN-REJECTED": 403,
    "HSK-404-NOT-FOUND": 404,
    "HSK-409-CONFLICT": 409,
    "HSK-409-INVALID-TRANSITION": 409,
    "HSK-409-JOB-NOT-AWAITING-USER": 409,
    "HSK-409-JOB-NOT-RESUMABLE": 409,
    "HSK-409-PLAN-CHANGED": 409,
    "HSK-409-PACK-REQUIRED": 409,
    "HSK-409-PACK-INVALID": 409,
    "HSK-413-TOO-LARGE": 413,
    "HSK-422-TASK-INVALID": 422,
    "HSK-429-RATE-LIMIT": 429,
    "HSK-499-CLIENT-GONE": 499,
    "HSK-500-INTEGRITY": 500,
    "HSK-500-UNEXPECTED": 500,
    "HSK-502-PROVIDER": 502,
    "HSK-504-PROVIDER-TIMEOUT": 504,
    "HSK-501-UNSUPPORTED": 501,
    "HSK-503-DRAINING": 503,
    "HSK-507-STORE": 507,
    "VAL-HTC-001": 400,
    "CX-MM-001": 503,
    "CX-MM-002": 409,
    "CX-MM-003": 504,
    "CX-MM-004": 403,
    "CX-MM-CONSENT-MISSING": 403,
}


def test_the_table_holds_every_code_of_the_specification_with_its_status() -> None:
    assert {leaf.code: leaf.http_status for leaf in catalogue()} == TABLE


def test_codes_that_only_inform_are_listed_but_no_exceptions() -> None:
    assert [notice.code for notice in NOTICES] == ["CX-MM-005"]
    assert not {notice.code for notice in NOTICES} & set(TABLE)


@pytest.mark.parametrize("family", [HandshakeError, *FAMILIES])
def test_a_family_cannot_be_raised(family: type[HandshakeError]) -> None:
    with pytest.raises(TypeError, match="raise one of its leaves"):
        family()


@pytest.mark.parametrize("leaf", catalogue())
def test_every_leaf_is_whole(leaf: type[HandshakeError]) -> None:
    error = leaf(id="x")
    assert leaf.family == leaf.__bases__[0].__name__
    assert leaf.__bases__[0] in FAMILIES
    assert leaf.__doc__
    assert leaf.sentence[0].islower()
    assert not leaf.sentence.endswith(".")
    assert leaf.hint.endswith(".")
    assert len(leaf.hint) <= MAX_VALUE_CHARS
    assert str(error) == f"{leaf.code}: {leaf.sentence} (id=x)"
    assert leaf.__name__ in vars(errors)


def test_exit_codes_follow_who_must_act() -> None:
    by_exit: dict[int, set[str]] = {}
    for leaf in catalogue():
        by_exit.setdefault(leaf.exit_code, set()).add(leaf.family)
    assert by_exit == {
        1: {"Request", "Unavailable", "Integrity"},
        2: {"Request"},
        3: {"Refused"},
        4: {"Request"},
        5: {"Conflict"},
        6: {"Integrity"},
    }
    assert [leaf.code for leaf in catalogue() if leaf.exit_code == 4] == ["HSK-404-NOT-FOUND"]
    assert [leaf.code for leaf in catalogue() if leaf.exit_code == 6] == ["HSK-500-INTEGRITY"]


def test_a_leaf_has_no_children_and_shares_no_code() -> None:
    with pytest.raises(TypeError, match="has no children"):
        type("Child", (NotFound,), {})
    with pytest.raises(TypeError, match="code of its own"):
        type("Twin", (Request,), {"sentence": "a", "hint": "b"}, code=NotFound.code)
    with pytest.raises(TypeError, match="needs a family"):
        type("Mute", (Request,), {}, code="HSK-0")
    assert len(catalogue()) == len(TABLE)


def test_text_and_json_carry_the_same_facts() -> None:
    error = InvalidRequest(field="text", reason="empty", position=3, partial=True, missing=None, held=["a", 1])
    assert str(error) == (
        "HSK-400-INVALID-REQUEST: the request is malformed "
        "(field=text, reason=empty, position=3, partial=true, missing=null, held=[a, 1])"
    )
    assert error.as_dict() == {
        "code": "HSK-400-INVALID-REQUEST",
        "message": "the request is malformed",
        "hint": "Correct the named field and send the request again.",
        "family": "Request",
        "details": {
            "field": "text",
            "reason": "empty",
            "position": 3,
            "partial": True,
            "missing": None,
            "held": ["a", 1],
        },
    }
    assert str(NotFound()) == "HSK-404-NOT-FOUND: there is nothing with this id"


def test_context_is_bounded_and_one_line() -> None:
    error = NotFound(id="x" * 10_000, many=list(range(1_000)), lines="a\nb\x1b[31m\u202e\ud800c")
    assert error.context["id"] == "x" * (MAX_VALUE_CHARS - 1) + "…"
    assert error.context["many"] == list(range(MAX_VALUE_ITEMS))
    assert error.context["lines"] == "a?b?[31m??c"
    assert str(error).isprintable()
    str(error).encode()


def test_a_value_of_another_kind_is_named_by_its_type_only() -> None:
    foreign: dict[str, object] = {"ratio": 0.5, "body": b"secret", "map": {"a": "secret"}, "huge": 10**5_000}
    error = NotFound(**foreign)  # type: ignore[arg-type]
    assert error.context == {"ratio": "<float>", "body": "<bytes>", "map": "<dict>", "huge": "<int>"}
    assert "secret" not in str(error)


def test_a_hint_can_be_given_per_raise_and_is_bounded() -> None:
    error = NotFound(hint="Did you mean\nthis?" + "x" * 1_000)
    assert error.hint.startswith("Did you mean?this?")
    assert len(error.hint) == MAX_VALUE_CHARS
    assert error.as_dict()["hint"] == error.hint
    assert NotFound().hint == NotFound.hint


def test_context_holds_no_reference_to_what_the_caller_passed() -> None:
    held = ["a"]
    error = NotFound(held=held)
    held.append("b")
    assert error.context == {"held": ["a"]}


def test_importing_the_table_imports_nothing_heavy() -> None:
    tree = ast.parse(inspect.getsource(errors))
    sources = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert sources == {"__future__", "collections.abc", "typing"}
    assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))
