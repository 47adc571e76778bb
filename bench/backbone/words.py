"""What the text path needs to know of a tokenizer: the ids of words alone, and what stands before and behind them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from bench.api import NotRunnable


class Words:
    """open_clip's tokenizers, CLIP's own and those of Hugging Face, in one form."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(n, L) ids, with all that the model wants around and behind the words."""
        return self.tokenizer(list(texts))

    def encode(self, text: str, inside: bool = False) -> list[int]:
        """Ids of the words alone. inside: other words stand before these, which some tokenizers mark."""
        if isinstance(self.tokenizer, SimpleTokenizer):
            return self.tokenizer.encode(text)
        if not inside:
            return self._bare(text)
        before, both = self._bare("a"), self._bare(f"a {text}")
        return both[len(before) :] if both[: len(before)] == before else self._bare(text)

    @property
    def start(self) -> list[int]:
        return self._frame[0]

    @property
    def end(self) -> list[int]:
        return self._frame[1]

    @property
    def pad(self) -> int:
        """What fills the context behind the end."""
        return self._frame[2]

    def _bare(self, text: str) -> list[int]:
        return self.tokenizer.tokenizer.encode(self.tokenizer.clean_fn(text), add_special_tokens=False)

    @functools.cached_property
    def _frame(self) -> tuple[list[int], list[int], int]:
        """Ids before the words, behind them, and of the padding, read from how a word is encoded."""
        if isinstance(self.tokenizer, SimpleTokenizer):
            return [self.tokenizer.sot_token_id], [self.tokenizer.eot_token_id], 0
        row, word = self.tokenizer(["a"])[0].tolist(), self._bare("a")
        special = len(self.tokenizer.tokenizer.encode(self.tokenizer.clean_fn("a"))) - len(word)
        places = [i for i in range(special + 1) if row[i : i + len(word)] == word]
        if not word or not places or len(set(row[special + len(word) :])) > 1:
            raise NotRunnable("this backbone's tokenizer frames a text in a way that the prompt path does not know")
        first = places[0]
        return row[:first], row[first + len(word) : special + len(word)], row[-1]
