"""Whether there is a Docker engine here, for tests that could use one."""

from __future__ import annotations

import functools
import shutil
import subprocess


@functools.cache
def finds_docker() -> bool:
    """Whether an engine answers, not only whether its client is installed."""
    if shutil.which("docker") is None:
        return False
    asked = subprocess.run(["docker", "info"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return asked.returncode == 0
