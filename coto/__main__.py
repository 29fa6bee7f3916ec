"""Entry point of ``python -m coto``: the job server runs the stage, or else this process."""

import sys

from coto.job_server import hand_over

status = hand_over()
if status is None:
    from coto.cli import main

    status = main()
sys.exit(status)
