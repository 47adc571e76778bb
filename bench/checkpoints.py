"""Where a long fit keeps its state, so that a killed run goes on where it was.

One folder a fit, named by the hash of all that determines the fit; in it at most `KEEP` files, each whole or not at
all. safetensors with the fit's hash inside: a file of another fit is never taken up.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bench import records
from bench.faults import point

KEEP = 2
"""Files a fit keeps: the newest, and the one before it in case the newest is damaged."""


class Checkpoints:
    """The checkpoints of one fit; implements `bench.api.Checkpoints`.

    every: seconds between two saves. notes: sentences about what could not be read or written; a fit goes on without.
    spent: what the fit has cost in this process so far, kept with its state. before: what the state that was loaded had
    cost, so that a fit that was killed does not look cheaper for it.
    """

    def __init__(self, root: Path, fit: str, every: float = 60.0) -> None:
        self.folder, self.fit, self.every = root / fit, fit, every
        self.notes: list[str] = []
        self.spent: Callable[[], Mapping[str, float]] = dict
        self.before: dict[str, float] = {}
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._last >= self.every

    def load(self) -> dict[str, Tensor] | None:
        """What the newest readable file of this fit holds."""
        for path in reversed(self._files()):
            try:
                with safe_open(path, framework="pt") as file:
                    about = file.metadata() or {}
                    if about.get("fit") == self.fit:
                        self.before = {name: float(cost) for name, cost in json.loads(about["spent"]).items()}
                        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
                self._note(f"checkpoint {path} belongs to another fit and was left alone")
            except (OSError, SafetensorError, ValueError, LookupError) as error:
                self._note(f"checkpoint {path} cannot be read ({error}) and was left alone")
        return None

    def save(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Keep these tensors as the state after `step` steps; a full disk costs the checkpoint and not the fit."""
        self._last = time.monotonic()
        try:
            records.make_folder(self.folder)
            spent = {name: self.before.get(name, 0.0) + cost for name, cost in self.spent().items()}
            content = save(
                {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
                {"fit": self.fit, "spent": json.dumps(spent)},
            )
            records.write(self.folder / f"{step:09d}.safetensors", content, "checkpoint")
            for old in self._files()[:-KEEP]:
                old.unlink()
            point("checkpoint.thinned")
        except OSError as error:
            self._note(
                f"checkpoints cannot be written to {self.folder} ({error.strerror}): a killed fit would begin anew"
            )

    def clear(self) -> None:
        """The fit is done and its result stored."""
        point("checkpoint.clearing")
        shutil.rmtree(self.folder, ignore_errors=True)
        point("checkpoint.cleared")

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.safetensors"))

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)
