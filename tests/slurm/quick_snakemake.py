"""Snakemake that asks SLURM for the states of jobs every two seconds.

The SLURM plugin adds ten seconds to its interval after every poll in which no job succeeded, up to
three minutes, and no option limits that: tests would wait most of their time.
"""

import asyncio
import sys

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor


async def wait_two_seconds(self: RemoteExecutor) -> None:
    """Wait, unless the executor is to shut down."""
    for _ in range(8):
        with self.lock:
            if not self.wait:
                return
        await asyncio.sleep(0.25)


RemoteExecutor.sleep = wait_two_seconds
sys.argv[0] = "snakemake"
sys.exit(main())
