# SPDX-License-Identifier: Apache-2.0
"""
``python -m tests.parts up``: a Docker daemon and the images, for a person; ``images``: the images and the programs of a cluster alone;
``down``: stop that daemon.
"""

from __future__ import annotations

import sys
import time

from tests.parts.cluster_build import cluster_programs
from tests.parts.docker import OwnDaemon, docker_session
from tests.parts.images import busybox, python_sklearn, stager
from tests.parts.requirement import Unavailable


def up(*, keep: bool) -> None:
    """Have a daemon that answers, with both images in it, and say how long each took."""
    started = time.monotonic()
    with docker_session(keep=keep) as url:
        print(f"docker at {url} ({time.monotonic() - started:.1f} s)", flush=True)
        for load in (busybox, python_sklearn, stager):
            started = time.monotonic()
            print(f"image {load(url)} ({time.monotonic() - started:.1f} s)", flush=True)
        if keep:
            return
        started = time.monotonic()
        print(f"programs of a cluster in {cluster_programs()} ({time.monotonic() - started:.1f} s)", flush=True)


def main(arguments: list[str]) -> int:
    """Do what the one argument says; 1 if a part cannot be had, 2 for bad usage."""
    commands = {"up": lambda: up(keep=True), "images": lambda: up(keep=False), "down": OwnDaemon().stop_any}
    if len(arguments) != 1 or arguments[0] not in commands:
        print(f"usage: python -m tests.parts {' | '.join(commands)}", file=sys.stderr)
        return 2
    try:
        commands[arguments[0]]()
    except Unavailable as reason:
        print(reason, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
