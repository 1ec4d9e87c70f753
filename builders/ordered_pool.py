"""map() over a process pool that keeps order, holds few results at a time and never starts more work than is wanted.

multiprocessing's own `imap` reads its whole input and buffers every finished result, so memory grows with the data when
the consumer is slower. Here only a few calls per process are started and not yet consumed.
"""

import contextlib
import multiprocessing
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

IN_FLIGHT_PER_PROCESS = 2
"""One call being worked on and one result waiting: the pool does not idle while the consumer writes."""


class WorkerDied(RuntimeError):
    """A process of the pool ended in the middle of its work: it was killed, or a library crashed under it."""

    def __init__(self, items: list):
        self.items = items
        """Those that have no result; at least one of the first was being worked on."""
        named = ", ".join(str(item).encode("utf-8", "backslashreplace").decode() for item in items)
        super().__init__(f"a process that reads died at one of these: {named}")


def _no_limit() -> int:
    return sys.maxsize


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    processes: int,
    wanted: Callable[[], int] = _no_limit,
) -> Iterator[Result]:
    """Yields function(item) for every item, in order, computed by `processes` processes (1: in this one).

    `function` and items must pickle, and `function` must live in a module, not in the main script: worker processes are
    started afresh (spawn), so that nothing of a multi-threaded parent is copied into them. `wanted()` is how many more
    results the consumer would take now; never more than that are in flight, and the map ends when it is 0. An exception
    of `function` is raised here; a process that dies raises WorkerDied.
    """
    items = iter(items)
    if processes <= 1:
        while wanted() > 0:
            try:
                item = next(items)
            except StopIteration:
                return
            yield function(item)
        return
    pending: deque[tuple[Item, Future]] = deque()
    exhausted = False
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            while True:
                while not exhausted and len(pending) < min(processes * IN_FLIGHT_PER_PROCESS, wanted()):
                    try:
                        item = next(items)
                    except StopIteration:
                        exhausted = True
                        break
                    with _main_script_hidden():
                        pending.append((item, pool.submit(function, item)))
                if not pending:
                    return
                yield pending[0][1].result()
                pending.popleft()
        except BrokenProcessPool:
            wait_for([future for _, future in pending])
            lost = [item for item, future in pending if isinstance(future.exception(), BrokenProcessPool)]
            raise WorkerDied(lost) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _main_script_hidden() -> Iterator[None]:
    """A spawned process runs the parent's main script again; that of `tfds build` takes ten seconds to import and holds
    nothing that our functions need."""
    main = sys.modules["__main__"].__dict__
    saved: dict[str, object] = {name: main.pop(name) for name in ("__file__", "__spec__") if name in main}
    main["__spec__"] = None
    try:
        yield
    finally:
        del main["__spec__"]
        main.update(saved)
