"""Sandbox of this machine: the first way of confining that passes its self-test, or none, and then nothing is started.

Source:
    gate.sandbox.fail_closed (INV-WS-002), gate.sandbox.confines (02 §7).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Sequence

import msgspec

from handshake.tools.sandbox import bubblewrap, plan, running
from handshake.tools.sandbox.orders import BUBBLEWRAP, HOST, LANDLOCK, NAMESPACES
from handshake.tools.sandbox.pipes import ConfinedPipes
from handshake.tools.sandbox.policy import NotConfined, Outcome, Policy
from handshake.tools.sandbox.self_test import Finding, self_test

BACKENDS = (NAMESPACES, BUBBLEWRAP, LANDLOCK)
"""In the order in which they are tried: what starts soonest and shows least comes first."""

_tested: dict[str, Finding] = {}
"""What the self-tests of this process found: what the kernel offers does not change while it runs."""


class Sandbox:
    """Starts commands confined.

    Args:
        backends: the ways that may be used, in order.
        read: folders and files outside the workspace that commands may read, declared by the operator.
        hidden: what no command sees, whatever it may read: the runtime's own folder.
    """

    def __init__(
        self, *, backends: Sequence[str] = BACKENDS, read: Sequence[str] = (), hidden: Sequence[str] = ()
    ) -> None:
        self._backends = tuple(backends)
        self._read = (*plan.interpreter_places(), *map(os.path.realpath, read))
        self._hidden = tuple(hidden)
        self._testing = asyncio.Lock()

    async def backend(self) -> str:
        """Return the way that commands are confined on this machine.

        Raises:
            NotConfined: there is none.
        """
        for one in self._backends:
            if (await self.finding(one)).is_good:
                return one
        raise NotConfined("no_backend")

    async def can_confine(self) -> bool:
        """Return whether commands can be confined on this machine."""
        for one in self._backends:
            if (await self.finding(one)).is_good:
                return True
        return False

    async def finding(self, backend: str) -> Finding:
        """Return what the self-test of one backend found; it is run once in a process."""
        async with self._testing:
            if backend not in _tested:
                _tested[backend] = await self_test(lambda policy: run_in(backend, policy), plan.interpreter_places())
            return _tested[backend]

    async def run(self, policy: Policy, stdin: bytes = b"") -> Outcome:
        """Run one command to its end; cancelling it ends the command and all that it started.

        Raises:
            NotConfined: there is no way to confine it here, and it was not started.
        """
        backend = await self.backend()
        whole = self._with_places(policy)
        return await run_in(backend, whole, stdin)

    async def open(self, policy: Policy) -> ConfinedPipes:
        """Start a program that is talked to over its standard streams until it is closed.

        Its scratch folder is in a namespace of its own, so a backend without one does not serve.

        Raises:
            NotConfined: there is no way to confine it here, and it was not started.
        """
        backend = await self.backend()
        if backend == LANDLOCK:
            raise NotConfined("no_namespaces")
        whole = self._with_places(policy)
        options = bubblewrap.wrapper(whole) if backend == BUBBLEWRAP else ()
        orders = plan.orders_for(whole, backend, wrapper=options)
        return ConfinedPipes(await running.start(orders, keeps_errors=False))

    def _with_places(self, policy: Policy) -> Policy:
        read, hidden = (*policy.read, *self._read), (*policy.hidden, *self._hidden)
        return msgspec.structs.replace(policy, read=read, hidden=hidden)


async def run_on_host(policy: Policy, stdin: bytes = b"") -> Outcome:
    """Run one command with its limits but unconfined, for a session to which the operator granted just that.

    Raises:
        NotConfined: it could not be started.
    """
    return await run_in(HOST, policy, stdin)


async def run_in(backend: str, policy: Policy, stdin: bytes = b"") -> Outcome:
    """Run one command in one way, whatever its self-test says.

    Raises:
        NotConfined: a step of confining it failed, and it was not started.
    """
    if backend in (NAMESPACES, BUBBLEWRAP):
        options = bubblewrap.wrapper(policy) if backend == BUBBLEWRAP else ()
        return await running.run(plan.orders_for(policy, backend, wrapper=options), policy.limits, stdin)
    scratch = os.path.realpath(tempfile.mkdtemp(prefix="handshake-command-"))
    try:
        return await running.run(plan.orders_for(policy, backend, scratch=scratch), policy.limits, stdin)
    finally:
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
