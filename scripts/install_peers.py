"""Installer: makes an environment for each peer that `handshake bench --peers` measures, below a folder for results."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from handshake.bench.peers.environment import DECIDERS, PEERS, home_of


def main() -> None:
    """Install every peer by its name."""
    options = argparse.ArgumentParser(prog="install_peers", description=__doc__)
    options.add_argument("results", type=Path, nargs="?", default=Path("handshake-bench"), help="folder for results")
    results = options.parse_args().results
    for peer in (*PEERS, *DECIDERS):
        home = home_of(peer, results)
        print(f"installing: {peer}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", peer]
        subprocess.run(pip, check=True)


if __name__ == "__main__":
    main()
