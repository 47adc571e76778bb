"""Work done ahead in other processes: pictures are opened, drawn and cropped while those before are used.

Results come in the order of the items, and no more than a window of them is ever held: AHEAD for each process.
"""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from torch.utils.data import DataLoader, Dataset

from bench import interrupts
from bench.api import NotRunnable, UserError

AHEAD = 2
"""Items that a process works ahead."""

Item = TypeVar("Item")
Made = TypeVar("Made")


def ahead(items: Sequence[Item], make: Callable[[Item], Made], workers: int, pin: bool = False) -> Iterator[Made]:
    """make(item) of each item, in order; in this process where one item or no worker is all there is.

    pin: tensors come in page-locked memory. A UserError or NotRunnable of `make` is raised here as it is; UserError
    where a process dies.
    """
    # forked processes inherit readers, which are closures; elsewhere everything is made in this one
    if len(items) < 2 or "fork" not in multiprocessing.get_all_start_methods():
        workers = 0
    source = _Made(items, make)
    workers = min(workers, len(items))
    if workers == 0:
        yield from map(_result, map(source.__getitem__, range(len(items))))
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")  # more than cores, as was asked for
        loader = DataLoader(
            source,
            batch_size=None,
            num_workers=workers,
            multiprocessing_context="fork",
            prefetch_factor=AHEAD,
            pin_memory=pin,
            worker_init_fn=interrupts.help_quietly,
        )
        made = iter(loader)
    while True:
        try:
            one = next(made)
        except StopIteration:
            return
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise UserError(
                "a process that opens pictures died, as happens where memory, or the shared memory of a container, is "
                "too small: use --workers 0, or fewer."
            ) from error
        yield _result(one)


class _Made(Dataset[Any]):
    """Item i as it was made, or what `make` says the matter is."""

    def __init__(self, items: Sequence[Any], make: Callable[[Any], Any]) -> None:
        self.items, self.make = items, make

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        try:
            return self.make(self.items[i])
        except (UserError, NotRunnable) as error:  # raised there, it would come with a worker's traceback in its text
            return _Failure(type(error), str(error))


class _Failure:
    """An exception on its way to the process that asked."""

    def __init__(self, kind: type[Exception], text: str) -> None:
        self.kind, self.text = kind, text


def _result(made: Any) -> Any:
    if isinstance(made, _Failure):
        raise made.kind(made.text)
    return made
