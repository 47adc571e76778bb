"""Ctrl-C, and the SIGTERM that schedulers send before they kill: the first ends the run in order, a second at once.

Nothing that is finished depends on it, for all that is stored is whole or absent; the order is for what is left over.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """One of SIGNALS has come."""


@dataclass
class Heed:
    """What was heard. at_once: called before a second signal ends the process. number: the first, 0 where none came."""

    at_once: Callable[[], None]
    number: int = 0
    held: int = 0
    owner: int = 0

    @property
    def code(self) -> int:
        """What shells report of a process that a signal ended: 130 or 143."""
        return 128 + self.number

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.owner:  # a forked child, which its parent ends: Ctrl-C comes to both
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        if self.number:
            self.at_once()
            os._exit(self.code)
        self.number = number
        self.check()

    def check(self) -> None:
        """Raise Interrupted if a signal has come and this is no moment of writing."""
        if self.number and not self.held and os.getpid() == self.owner:
            raise Interrupted


_heeding: list[Heed] = []


@contextlib.contextmanager
def heeded(at_once: Callable[[], None]) -> Iterator[Heed]:
    """In the block a first signal raises Interrupted; in a thread other than the main one nothing changes."""
    heed = Heed(at_once, owner=os.getpid())
    if threading.current_thread() is not threading.main_thread():
        yield heed
        return
    asked = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # as of `nohup`, or a job in &
    before = {number: signal.signal(number, heed) for number in asked}
    told = sys.unraisablehook
    sys.unraisablehook = lambda lost: None if isinstance(lost.exc_value, Interrupted) else told(lost)  # see `check`
    _heeding.append(heed)
    try:
        yield heed
    finally:
        _heeding.pop()
        sys.unraisablehook = told
        if not heed.number:  # who was interrupted is about to end, and heeds a second one until then
            for number, handler in before.items():
                signal.signal(number, handler)


def check() -> None:
    """Raise Interrupted where a signal's exception was lost, as in a destructor, where Python drops it."""
    if _heeding:
        _heeding[-1].check()


def help_quietly(number: int = 0) -> None:
    """For a forked helper: Ctrl-C is its parent's business, and a SIGTERM that comes to both is no failure of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))


@contextlib.contextmanager
def held() -> Iterator[None]:
    """A signal that comes in the block, which is a short one, raises behind it: what is written there is finished."""
    heed = _heeding[-1] if _heeding and threading.current_thread() is threading.main_thread() else None
    if heed is None:
        yield
        return
    heed.held += 1
    try:
        yield
    finally:
        heed.held -= 1
    heed.check()
