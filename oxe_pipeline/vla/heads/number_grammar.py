"""Whole numbers as a language model spells them, and which ids may come next, so that a list of numbers comes out.

A vocabulary spells " 128" in one id (GPT-2), in a space and three digits (Gemma, Llama, bytes), or in between; or it
has an id of its own for each number. `spelled_codes` and `symbol_codes` give the ids of each number, `NumberGrammar`
joins them into a trie, and a `NumberSpeaker` walks it with the rows of a batch, each at its own place. Every finished
walk is exactly the wanted count of numbers in their ranges, then the end, whatever the logits were.

A number ends where the next one begins, so numbers whose digits do not show where they begin are refused beforehand.

Shape letters: B batch, K numbers of a row, S ids, L longest code, N nodes of the trie, A ids that occur in it and end.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oxe_pipeline.vla.context import TextVocabulary

Codes = Sequence[Sequence[int]]
"""Per number, 0 first: the ids that spell it."""


def spelled_codes(vocabulary: TextVocabulary, count: int) -> list[list[int]]:
    """Ids of " 0", " 1", ... up to `count` - 1, each as it stands behind another number.

    ValueError for a vocabulary in which no way of spelling keeps neighbouring numbers apart and reads back.
    """
    for spell in (_inside_a_list, _by_itself, _digit_by_digit):
        codes = [spell(vocabulary, number) for number in range(count)]
        if _ambiguity(codes) is None and _reads_back(vocabulary, codes):
            return codes
    raise ValueError(
        f"the backbone's tokeniser cannot spell lists of numbers from 0 to {count - 1} so that they read back; "
        'give each number an id of its own with numbers="symbols"'
    )


def symbol_codes(first_id: int, count: int) -> list[list[int]]:
    """One id per number: `first_id`, `first_id` + 1, ..."""
    return [[first_id + number] for number in range(count)]


def _inside_a_list(vocabulary: TextVocabulary, number: int) -> list[int]:
    """What follows the "0" of "0 128"; nothing where the two are not apart there. Tokenisers that set a space before
    each text of their own accord (Llama's) add none here."""
    before, ids = vocabulary.encode("0"), vocabulary.encode(f"0 {number}")
    return ids[len(before) :] if ids[: len(before)] == before else []


def _by_itself(vocabulary: TextVocabulary, number: int) -> list[int]:
    return vocabulary.encode(f" {number}")


def _digit_by_digit(vocabulary: TextVocabulary, number: int) -> list[int]:
    return [token for character in f" {number}" for token in vocabulary.encode(character)]


def _ambiguity(codes: Codes) -> str | None:
    """Why a list of codes could be read in two ways, or None: a code must go on with ids that begin none."""
    if any(len(code) == 0 for code in codes):
        return f"{[len(code) for code in codes].index(0)} has no id"
    if len(set(map(tuple, codes))) < len(codes):
        return "two numbers have the same ids"
    begins = {code[0] for code in codes}
    for number, code in enumerate(codes):
        if not begins.isdisjoint(code[1:]):
            return f"{number} goes on with an id that also begins a number"
    return None


def _reads_back(vocabulary: TextVocabulary, codes: Codes) -> bool:
    """Every number is read again as itself, before and behind another one."""
    for number, code in enumerate(codes):
        other = len(codes) - 1 - number
        if vocabulary.decode([*code, *codes[other], *code]).split() != [str(number), str(other), str(number)]:
            return False
    return True


class NumberGrammar(nn.Module):
    """The trie of all codes as tensors, which move with the model and are not part of its weights."""

    alphabet_A: Tensor
    """Ids that occur in numbers, then the one that ends a text."""
    child_NA: Tensor
    """The node that an id leads to, -1 for none; node 0 is where a number begins."""
    number_N: Tensor
    """The number that is complete at the node, -1 for none."""
    smallest_N: Tensor
    """The least number at the node or behind it: shows where a branch holds only numbers that are too large."""
    code_KL: Tensor
    length_K: Tensor

    def __init__(self, codes: Codes, *, end_id: int):
        """ValueError for codes that could be read in two ways, or that use the id that ends a text."""
        super().__init__()
        ambiguity = _ambiguity(codes)
        if ambiguity:
            raise ValueError(f"numbers cannot be told apart in these ids: {ambiguity}")
        alphabet = sorted({token for code in codes for token in code})
        if end_id in alphabet:
            raise ValueError(f"id {end_id} ends a text and cannot be part of a number")
        self.end_number = len(codes)
        """Stands for the end where `spell` takes numbers."""
        child, number, smallest = _trie(codes, alphabet)
        longest = max(map(len, codes))
        spelled = [*map(list, codes), [end_id]]
        for name, rows in {
            "alphabet_A": [*alphabet, end_id],
            "child_NA": child,
            "number_N": number,
            "smallest_N": smallest,
            "code_KL": [code + [0] * (longest - len(code)) for code in spelled],
            "length_K": [len(code) for code in spelled],
        }.items():
            self.register_buffer(name, torch.tensor(rows), persistent=False)

    def spell(self, numbers_BK: Tensor, spoken_BK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Ids [B, S] of the numbers for which `spoken_BK` is true, one behind the other; which of the K each id belongs
        to, int64 [B, S]; and where there are ids, bool [B, S]: shorter rows are padded at the end."""
        length_BK, longest = self.length_K[numbers_BK], self.code_KL.shape[1]
        exists = (torch.arange(longest, device=numbers_BK.device) < length_BK[..., None]) & spoken_BK[..., None]
        owner = torch.arange(numbers_BK.shape[1], device=numbers_BK.device)[:, None].expand_as(exists)
        exists, ids, owner = exists.flatten(1), self.code_KL[numbers_BK].flatten(1), owner.flatten(1)
        order = torch.argsort(exists.logical_not().to(torch.uint8), dim=1, stable=True)
        order = order[:, : int(exists.sum(1).max())]
        return ids.gather(1, order), owner.gather(1, order), exists.gather(1, order)

    def opens(self, node_B: Tensor, limit_B: Tensor) -> Tensor:
        """bool [B, A]: ids that lead from the node to some number below the limit."""
        child_BA = self.child_NA[node_B]
        return (child_BA >= 0) & (self.smallest_N[child_BA.clamp(min=0)] < limit_B[:, None])


def _trie(codes: Codes, alphabet: Sequence[int]) -> tuple[list[list[int]], list[int], list[int]]:
    """The tables child, number and smallest of a NumberGrammar, which see."""
    column = {token: place for place, token in enumerate(alphabet)}
    none = [-1] * (len(alphabet) + 1)
    child, complete, smallest = [list(none)], [-1], [0]
    for number, code in enumerate(codes):
        node = 0
        for token in code:
            if child[node][column[token]] < 0:
                child[node][column[token]] = len(child)
                child.append(list(none))
                complete.append(-1)
                smallest.append(number)
            node = child[node][column[token]]
        complete[node] = number
    return child, complete, smallest


class NumberSpeaker:
    """Where each row of a batch stands in its list of numbers: the state of one decode.

    `limit_BK` int64: the k-th number of a row is to be below it; 0 where a row has no k-th number, all such at the end.
    """

    def __init__(self, grammar: NumberGrammar, limit_BK: Tensor):
        self._grammar = grammar
        self._limit = F.pad(limit_BK, (0, 2))  # Rows that are done stand behind their last number, and look ahead.
        self._place_B = torch.zeros_like(limit_BK[:, 0])
        self._node_B = torch.zeros_like(self._place_B)
        self._numbers = torch.zeros_like(self._limit)

    @property
    def numbers_BK(self) -> Tensor:
        """int64: the numbers so far, 0 where there is none yet."""
        return self._numbers[:, :-2]

    @property
    def done_B(self) -> Tensor:
        """bool [B]: the row's list is complete."""
        return self._limit_ahead(0) == 0

    def speak(self, logits_BV: Tensor) -> Tensor:
        """The likeliest permitted id of every row, int64 [B]; the rows move on by it. Rows that are done say the end.

        Any logits will do, NaN and infinities included.
        """
        ids_A = self._grammar.alphabet_A
        least = torch.finfo(torch.float32).min
        logits_BA = logits_BV[:, ids_A].float().nan_to_num(nan=least, neginf=least)
        column_B = logits_BA.masked_fill(~self._permitted(), -torch.inf).argmax(1)
        self._move(column_B)
        return ids_A[column_B]

    def _permitted(self) -> Tensor:
        """bool [B, A]: the ids that may come next."""
        complete, next_limit_B = self._complete(), self._limit_ahead(1)
        goes_on = self._grammar.opens(self._node_B, self._limit_ahead(0))
        next_begins = self._grammar.opens(torch.zeros_like(self._node_B), next_limit_B) & complete[:, None]
        permitted = goes_on | next_begins
        permitted[:, -1] = self.done_B | (complete & (next_limit_B == 0))
        return permitted

    def _move(self, column_B: Tensor) -> None:
        grammar = self._grammar
        child_B = grammar.child_NA[self._node_B, column_B]
        self._finish((child_B < 0) & ~self.done_B)
        self._node_B = torch.where(child_B < 0, grammar.child_NA[0, column_B], child_B).clamp(min=0)
        # A last number that cannot grow any further needs no end to be known as complete.
        grows = grammar.opens(self._node_B, self._limit_ahead(0)).any(1)
        self._finish(self._complete() & (self._limit_ahead(1) == 0) & ~grows)

    def _finish(self, finished_B: Tensor) -> None:
        """Notes the number that is complete at the row's node, and goes to the next place."""
        rows = torch.nonzero(finished_B)[:, 0]
        self._numbers[rows, self._place_B[rows]] = self._grammar.number_N[self._node_B[rows]]
        self._place_B = self._place_B + finished_B

    def _complete(self) -> Tensor:
        """bool [B]: a number within its limit ends at the row's node."""
        number_B = self._grammar.number_N[self._node_B]
        return (number_B >= 0) & (number_B < self._limit_ahead(0))

    def _limit_ahead(self, places: int) -> Tensor:
        """Limit of the number that the row is at, or of one `places` further on; 0 where there is none."""
        return self._limit.gather(1, (self._place_B + places)[:, None])[:, 0]
