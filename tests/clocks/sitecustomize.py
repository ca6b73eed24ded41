"""Gives one service a clock of its own: its process begins again, with libfaketime before it.

Python runs this at the start of each process that has this folder on its path. ``CLOCK_OF`` names
the module, ``CLOCK_LIBRARY`` the library; the process stays the same to whoever started it.
"""

import os
import sys

_LIBRARY = os.environ["CLOCK_LIBRARY"]

if os.environ["CLOCK_OF"] in sys.orig_argv and os.environ.get("LD_PRELOAD") != _LIBRARY:
    os.execve(sys.executable, sys.orig_argv, {**os.environ, "LD_PRELOAD": _LIBRARY})
