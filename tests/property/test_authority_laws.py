"""Laws of authority: no sequence of grants, approvals, revocations and spawns gives anybody more than those above.

What the kernel decides is held to an oracle that knows of no index, mark or layer: it asks of every path whether each
of the sessions from the one that calls to its root has a live grant for it.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

import msgspec
import pytest

from handshake.kernel.approval import Approval, ApprovalKind
from handshake.kernel.authority import Authority, Outcome, decide
from handshake.kernel.capability import SHIPPED
from handshake.kernel.containment import covers, overlaps
from handshake.kernel.errors import CapabilityMissing
from handshake.kernel.event import Context
from handshake.kernel.grant import UNCONSTRAINED, CallFacts, Constraints, Exact, Grant, Lifetime, Use, hindrance
from handshake.kernel.grant_settings import PolicyRules
from handshake.kernel.ids import SessionId, TurnId
from handshake.kernel.narrowing import Lent, Wanted, narrow, require_delegable_held
from handshake.operations import grant_requests, grants
from handshake.operations.authorities import Authorities
from handshake.ports.store import Reader, Tx
from tests.requirement import requirement
from tests.running import Stage

SEEDS = 12
STEPS = 40
PATHS = ("a/x", "a/b/x", "a/b/c/x", "b/x", "secret/x", ".handshake/x")
WRITTEN = ("fs.write", "fs.write:a", "fs.write:a/b", "fs.write:a/*", "fs.write:**/x", "fs.write:b/x", "fs.write:secret")
RULES = PolicyRules(deny=("fs.write:secret",), ask=("fs.write:a/b/c",), allow=("fs.write",))
BOUNDS = (
    UNCONSTRAINED,
    UNCONSTRAINED,
    Constraints(max_uses=2),
    Constraints(expires_at_us=5),
    Constraints(expires_at_us=9),
    Constraints(args={"/to": Exact("p")}),
)
CALLS = [CallFacts(args={"to": to}, turn_id=TurnId(turn), wp_id="W", now_us=5) for to in "pq" for turn in "tu"]


class Line(NamedTuple):
    """One session with its parent."""

    session_id: SessionId
    parent: SessionId | None
    role: str


class Play:
    """A workspace in which people give and take back, and sessions spawn as far as narrowing lets them."""

    def __init__(self, stage: Stage, chance: Random) -> None:
        self.stage = stage
        self.chance = chance
        self.lines: list[Line] = []
        self.refused = 0
        self.kept = Authorities(RULES)
        """Kept over all steps, so that whatever it remembers wrongly shows."""

    def bounds(self) -> Constraints:
        """Return bounds of some kind, often none."""
        return self.chance.choice(BOUNDS)

    def wanted(self) -> list[Wanted]:
        """Return some grants that somebody asks for."""
        return [
            Wanted(
                capability=SHIPPED.parse_rule(self.chance.choice(WRITTEN)), use=self.chance.choice(tuple(Use)),
                held=self.chance.random() < 0.8, delegable=self.chance.random() < 0.6, constraints=self.bounds(),
            )
            for _ in range(self.chance.randrange(4))
        ]  # fmt: skip

    async def root(self) -> None:
        """Make a root session."""
        role = self.chance.choice(("coder", "worker"))
        session_id = await self.stage.create(wp_id=self.chance.choice(("W", None)), role=role)
        self.lines.append(Line(session_id, None, role))

    async def spawn(self) -> None:
        """Make a child with what it asks for, if its parent may pass that on."""
        above = self.chance.choice(self.lines)
        live = await self.stage.store.read(lambda reader: grants.of_session(reader, above.session_id))
        wanted = self.wanted()
        try:
            require_delegable_held(wanted)
            lent = narrow(live, wanted)
        except CapabilityMissing:
            self.refused += 1
            return
        for one in lent:
            require_within(one)
        plain = self.stage.session(await self.stage.create(wp_id="W", role=above.role))
        child = msgspec.structs.replace(
            plain, session_id=SessionId(self.stage.new_id()), parent_session_id=above.session_id, spawn_depth=1
        )
        ids = [self.stage.new_id() for _ in lent]

        def unit(tx: Tx) -> None:
            tx.run("session_insert", msgspec.structs.asdict(child))
            approval, model = grant_requests.of_model(child, "operator")
            own = grant_requests.to_grants(approval, child, [one.wanted for one in lent], iter(ids))
            grants.give(tx, approval, [model, *own], Context(model_session_id=child.session_id))

        await self.stage.store.write(unit)
        self.lines.append(Line(child.session_id, above.session_id, child.role))

    async def give(self) -> None:
        """Give some session something, as an operator may, whatever its parent may pass on."""
        session = self.stage.session(self.chance.choice(self.lines).session_id)
        approval = Approval(
            approval_id=self.stage.new_id(), session_id=session.session_id, role=session.role, created_at_us=1,
            kind=ApprovalKind.OPERATOR, lifetime=self.chance.choice(tuple(Lifetime)), user_id="operator",
            expires_at_us=self.chance.choice((4, 9)),
        )  # fmt: skip
        ids = iter([self.stage.new_id() for _ in range(8)])
        if self.chance.random() < 0.3:
            need = [SHIPPED.parse(f"fs.write:{self.chance.choice(PATHS[:4])}")]
            given = grant_requests.for_calls_like(approval, session, need, {"/to": "p"}, ids, turn_id=TurnId("t"))
        else:
            given = grant_requests.to_grants(approval, session, self.wanted(), ids, turn_id=TurnId("t"))
        await self.stage.store.write(
            lambda tx: grants.give(tx, approval, given, Context(model_session_id=session.session_id))
        )

    async def take(self) -> None:
        """Take back a grant or an approval."""
        views = await self.stage.store.read(lambda reader: grants.listed(reader, limit=1_000))
        given = [one for one in views if one.grant.grant_id != one.grant.session_id]
        if given:
            one = self.chance.choice(given).grant
            whole = self.chance.random() < 0.3 and one.approval_id != one.session_id
            which = one.approval_id if whole else one.grant_id
            await self.stage.store.write(lambda tx: grants.revoke(tx, which, by="operator"))

    async def use(self) -> None:
        """Make a call that is allowed, which uses up what is counted."""
        line, call = self.chance.choice(self.lines), self.chance.choice(CALLS)
        need = [SHIPPED.parse(f"fs.write:{self.chance.choice(PATHS)}")]

        def unit(tx: Tx) -> None:
            found = decide(self.kept.of(tx, line.session_id), need, call)
            if found.outcome is Outcome.ALLOW:
                grants.count_use(tx, found.grants)

        await self.stage.store.write(unit)

    def chain(self, line: Line) -> list[Line]:
        """Return a session and those above it."""
        found = [line]
        while found[-1].parent is not None:
            found.append(next(one for one in self.lines if one.session_id == found[-1].parent))
        return found

    def check(self, reader: Reader) -> None:
        """Hold what is decided about every session, path and call to the oracle."""
        everything = [one.grant for one in grants.listed(reader, limit=1_000)]
        roles = {one.grant.grant_id: one.role for one in grants.listed(reader, limit=1_000)}
        for line in self.lines:
            kept = self.kept.of(reader, line.session_id)
            assert kept.layers == Authorities(RULES).of(reader, line.session_id).layers
            chain = [belongs(everything, roles, one, reader) for one in self.chain(line)]
            for path in PATHS:
                for call in CALLS:
                    require_as_oracle(kept, chain, path, call)


def belongs(everything: list[Grant], roles: dict[str, str], line: Line, reader: Reader) -> list[Grant]:
    """Return the live grants of a session, and those of its work packet for its role."""
    row = reader.row("session_lineage", {"session_id": line.session_id})
    assert row is not None
    return [
        one
        for one in everything
        if one.session_id == line.session_id
        or (
            one.lifetime is Lifetime.WORK_PACKET
            and one.wp_id is not None
            and one.wp_id == row[2]
            and roles[one.grant_id] == line.role
        )
    ]


def require_as_oracle(kept: Authority, chain: list[list[Grant]], path: str, call: CallFacts) -> None:
    """Hold one decision to what the chain's grants say by themselves."""
    wanted = SHIPPED.parse(f"fs.write:{path}")
    found = decide(kept, [wanted], call)

    def live(one: Grant) -> bool:
        return covers(one.capability, wanted) and hindrance(one, call) is None

    own, *above = chain
    usable = [one for one in own if one.held and one.use is not Use.DELEGATE_ONLY and live(one)]
    passed = all(any(one.delegable and live(one) for one in held) for held in above)
    denied = any(overlaps(SHIPPED.parse_rule(rule), wanted) for rule in RULES.deny)
    asked = any(overlaps(SHIPPED.parse_rule(rule), wanted) for rule in RULES.ask)
    if denied or not usable or not passed or path.startswith(".handshake"):
        assert found.outcome is Outcome.DENY
    elif (asked or any(one.use is Use.ASK for one in usable)) and not any(one.settles_ask for one in usable):
        assert found.outcome is Outcome.ASK
    else:
        assert found.outcome is Outcome.ALLOW
    assert found.outcome is not Outcome.ALLOW or set(found.grants) <= {
        "policy:0", *(one.grant_id for held in chain for one in held)
    }  # fmt: skip


def require_within(one: Lent) -> None:
    """Hold what a child got to the grant that it rests on, path by path and call by call."""
    for path in PATHS:
        wanted = SHIPPED.parse(f"fs.write:{path}")
        for call in CALLS:
            child = Grant(
                grant_id="c", approval_id="p", session_id=SessionId("c"), capability=one.wanted.capability,
                constraints=one.wanted.constraints,
            )  # fmt: skip
            fresh = msgspec.structs.replace(one.source, uses=0, turn_id=call.turn_id, wp_id=call.wp_id)
            if (
                covers(child.capability, wanted)
                and hindrance(child, call) is None
                and fresh.lifetime is not Lifetime.UNTIL
            ):
                assert covers(fresh.capability, wanted)
                assert hindrance(fresh, call) is None


@requirement(
    "capability.child.never_wider", "capability.child.within_parent_held", "capability.session.intersection",
    "capability.revoke.acts_at_once", "capability.lifetime.ends",
)  # fmt: skip
@pytest.mark.parametrize("seed", range(SEEDS))
async def test_no_sequence_of_grants_revocations_and_spawns_widens_authority(seed: int) -> None:
    chance = Random(seed)
    play = Play(await Stage.open(seed=seed + 1), chance)
    await play.root()
    for _ in range(STEPS):
        step = chance.choices((play.root, play.spawn, play.give, play.take, play.use), (1, 4, 4, 2, 3))[0]
        await step()
        await play.stage.store.read(play.check)
    assert len(play.lines) > 1
    assert play.refused
