"""Main: `python -m handshake` is the command `handshake`."""

from __future__ import annotations

from handshake.cli.main import main

if __name__ == "__main__":
    main()
