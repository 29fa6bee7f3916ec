"""Entry point of ``python -m coto``."""

import sys

from coto.cli import main

sys.exit(main())
