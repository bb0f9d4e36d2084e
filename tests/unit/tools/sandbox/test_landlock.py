from __future__ import annotations

import pytest

from handshake.tools.sandbox import landlock
from handshake.tools.sandbox.landlock import IOCTL_DEV, REFER, RIGHTS, TRUNCATE, handled
from tests.requirement import requirement

BEFORE_REFER = (1 << 13) - 1


@requirement("gate.sandbox.confines")
@pytest.mark.parametrize(
    ("version", "rights"),
    [
        (1, (BEFORE_REFER,)),
        (2, (BEFORE_REFER | REFER,)),
        (3, (BEFORE_REFER | REFER | TRUNCATE,)),
        (4, (BEFORE_REFER | REFER | TRUNCATE, 3)),
        (5, (BEFORE_REFER | REFER | TRUNCATE | IOCTL_DEV, 3)),
        (6, (BEFORE_REFER | REFER | TRUNCATE | IOCTL_DEV, 3, 3)),
        (99, (BEFORE_REFER | REFER | TRUNCATE | IOCTL_DEV, 3, 3)),
    ],
)
def test_every_right_that_a_kernel_knows_is_handled(version: int, rights: tuple[int, ...]) -> None:
    assert handled(version) == rights


def test_a_network_is_left_out_of_what_is_handled_and_nothing_else() -> None:
    files, network, scopes = handled(6, has_network=True)
    assert (files, network, scopes) == (handled(6)[0], 0, 3)


def test_no_rule_makes_devices_and_only_device_rules_speak_to_them() -> None:
    for word, rights in RIGHTS.items():
        assert not rights & (landlock.MAKE_CHAR | landlock.MAKE_BLOCK)
        assert bool(rights & IOCTL_DEV) == (word == "device")
    assert not RIGHTS["read"] & (landlock.WRITE_FILE | TRUNCATE | landlock.REMOVE_FILE | landlock.MAKE_REG)
