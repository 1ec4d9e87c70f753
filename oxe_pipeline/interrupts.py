"""Ctrl-C that is never lost: Python drops a KeyboardInterrupt that falls into an object's finaliser."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def heard_interrupts() -> Iterator[Callable[[], None]]:
    """Yields what a long loop calls now and then: it raises KeyboardInterrupt where one was raised before and dropped.

    In a loop whose batches go back to a pool by finalisers, one Ctrl-C in 300 fell into one, was reported as "Exception
    ignored" and the loop went on. Outside the main thread, where no signal arrives, nothing is changed.
    """
    heard = threading.Event()

    def interrupt(number: int, frame: object) -> None:
        heard.set()
        raise KeyboardInterrupt

    def raise_dropped() -> None:
        if heard.is_set():
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield raise_dropped
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield raise_dropped
    finally:
        signal.signal(signal.SIGINT, before)
