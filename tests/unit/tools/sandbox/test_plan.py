from __future__ import annotations

import os
from pathlib import Path

import pytest

from handshake.tools.sandbox import plan
from handshake.tools.sandbox.orders import HOST, LANDLOCK, NAMESPACES
from handshake.tools.sandbox.policy import Limits, NotConfined, Policy
from tests.requirement import requirement


def policy(root: Path, *write: str, hidden: tuple[str, ...] = (), read: tuple[str, ...] = ()) -> Policy:
    return Policy(
        argv=("true",),
        root=str(root),
        cwd=str(root),
        environment=(("PATH", "/usr/bin"),),
        write=tuple(f"{root}/{one}".rstrip("/") for one in write),
        hidden=tuple(f"{root}/{one}" for one in hidden),
        read=read,
        limits=Limits(timeout_ms=1_500),
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "root"
    for one in (".handshake", ".git/hooks", "src"):
        (place / one).mkdir(parents=True)
    (place / "page").write_text("")
    return place


@requirement("capability.path.runtime_folder_closed")
def test_what_is_closed_is_laid_over_what_is_writable(root: Path) -> None:
    found = plan.mounts(policy(root, "", hidden=("page",)))
    order = [found.index(one) for one in (("read", str(root), str(root)), ("write", str(root), str(root)))]
    order += [
        found.index(one)
        for one in (
            ("mask", "", f"{root}/.handshake"),
            ("mask", "", f"{root}/page"),
            ("write", f"{root}/.git", f"{root}/.git"),
            ("read", f"{root}/.git/config", f"{root}/.git/config"),
            ("read", f"{root}/.git/hooks", f"{root}/.git/hooks"),
        )
    ]
    assert order == sorted(order)


def test_a_git_file_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: elsewhere")
    assert ("read", f"{tmp_path}/.git", f"{tmp_path}/.git") in plan.mounts(policy(tmp_path, ""))


@requirement("gate.sandbox.confines")
def test_nothing_that_holds_secrets_is_shown(root: Path) -> None:
    targets = {target for _, _, target in plan.mounts(policy(root, "src", read=("/usr/share", "/opt/tool")))}
    for secret in (
        "/etc/shadow",
        "/etc/ssh",
        "/etc/ssl/private",
        "/etc",
        "/root",
        "/home",
        "/run",
        "/var",
        "/sys",
        "/",
    ):
        assert secret not in targets
    assert "/opt/tool" in targets
    assert "/usr/share" not in targets  # it is shown with what it lies in


@requirement("gate.sandbox.confines", "capability.path.runtime_folder_closed")
def test_rules_alone_go_around_what_is_closed(root: Path) -> None:
    rules = plan.rules(policy(root, ""), "/scratch", is_alone=True)
    places = [place for word, place in rules if place.startswith(str(root)) and word in ("read", "write")]
    assert {one[len(str(root)) :] for one in places} == {"/.git", "/src", "/page"}
    assert [one for one in rules if one[1].startswith(f"{root}/.git")] == [("read", f"{root}/.git")]
    assert ("write", "/scratch") in rules


def test_rules_in_a_namespace_are_about_writing(root: Path) -> None:
    rules = plan.rules(policy(root, "src"), "/tmp", is_alone=False)
    assert ("read", "/") in rules
    assert [place for word, place in rules if word == "write"] == ["/tmp", "/dev/shm", f"{root}/src"]


def test_every_way_gets_its_limits(root: Path) -> None:
    for mode in (NAMESPACES, LANDLOCK, HOST):
        orders = plan.orders_for(policy(root), mode, scratch="/scratch")
        limits = dict(orders.limits)
        assert (limits[4], limits[1]) == (0, Limits(timeout_ms=1).file_bytes)
        assert ("HOME", "/scratch") in orders.environment
        assert bool(orders.program) == (mode != HOST)
        assert bool(orders.mounts) == (mode == NAMESPACES)


@requirement("gate.sandbox.fail_closed")
def test_an_unknown_architecture_is_not_confined(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Machine:
        machine = "s390x"

    monkeypatch.setattr(os, "uname", Machine)
    with pytest.raises(NotConfined):
        plan.orders_for(policy(root), NAMESPACES)
