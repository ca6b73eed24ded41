"""The terminal of a long run: Ctrl-C ends it early, and a bar shows how far it is."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


class Interrupt:
    """Set by the first Ctrl-C; the second one ends the process as usual."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def __call__(self) -> bool:
        return self._event.is_set()

    @contextmanager
    def withheld(self) -> Iterator[None]:
        """Processes that are started inside never get a Ctrl-C from the terminal."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, self._interrupted)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def _interrupted(self, *_: object) -> None:
        click.echo("\nstopping; Ctrl-C again to stop without a check", err=True)
        self._event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def progress(length: int, what: str, every: int) -> Iterator[Callable[[int], None]]:
    """A way to tell how far it is: a bar on a terminal, else a line now and then."""
    if sys.stdout.isatty():
        with click.progressbar(length=length, label=what) as bar:
            yield lambda done: bar.update(min(done, length) - bar.pos)
        return
    last = 0

    def tell(done: int) -> None:
        nonlocal last
        if done // every > last // every or done >= length > last:
            click.echo(f"{what}: {done} of {length}")
        last = done

    yield tell
