"""Calls side by side, of which none goes on when one has failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

__all__ = ["together"]


def together(calls: Sequence[Callable[[], object]], *, at_once: int, stop: Callable[[], None]) -> None:
    """Make the calls in threads, begun in their order and so many at once; returns when all have ended.

    The first error, or an interrupt, makes ``stop`` be called, which has the other calls end soon, and is raised.
    """
    with ThreadPoolExecutor(at_once, thread_name_prefix="together") as pool:
        futures: list[Future[object]] = []
        try:
            for call in calls:
                futures.append(pool.submit(call))
            ended = wait(futures, return_when=FIRST_EXCEPTION).done
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # also of what could be given no thread
            if len(futures) < len(calls) or not all(future.done() for future in futures):
                stop()
    for future in futures:
        if future in ended:
            future.result()
