"""What every service process does alike: read its settings, and stop when asked to."""

import os
import signal
import sys
import threading

from services.settings import Settings, SettingsError

EXIT_AGAIN = 1
"""Exit status of a service that is to be started again: what it needs to know, the store knows."""

EXIT_BAD_INPUT = 2
"""Exit status for an environment or a feeder that cannot be used: starting again will not help."""


def settings_or_exit() -> Settings:
    """The settings of the environment; a wrong environment ends the process, all problems told."""
    try:
        return Settings.from_env(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)


def stop_event() -> threading.Event:
    """Set once SIGTERM or SIGINT has come."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
