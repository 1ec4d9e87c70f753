"""FAST: a chunk of actions as few tokens, by cosine transform, rounding and byte pairs (Pertsch et al. 2025, arXiv
2501.09747).

Each slot's values over the chunk go through an orthonormal DCT-II; times `scale`, rounded, they are whole numbers that
are mostly 0 for smooth motion. They are laid out low frequencies first, all slots of one frequency together, and
neighbours that often occur together become one token, by byte-pair encoding fitted to the mixture's own chunks.

What it trades away: values are off by up to sqrt(chunk) / (2 scale), a twentieth of a robot's half range times
sqrt(chunk) at scale 10 (in the mean far less); coefficients beyond `limit` are cut. Unlike in the published code every
whole number up to the limit has a token of its own, so every chunk can be said, and each token is a known number of
coefficients, so a sequence of the right length can always be reached.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer

INSTALL_HINT = "FAST action tokens need tokenizers: pip install 'oxe-pipeline[train]'"
CODEC_FORMAT = 1
_FIRST_LETTER = 0x4E00
"""Coefficients are letters of a block of 20,000 that no text rule touches."""


class CodecError(ValueError):
    """A codec that cannot be made or read, or a chunk that has no code: what, the value, the remedy."""


@dataclass(frozen=True)
class FastCodec:
    """Chunks to ids from 0 and back. Ids 0 to 2 * limit are the coefficients -limit to limit, then follow the pairs."""

    scale: float
    """Coefficients per unit of normalised action: finer where larger."""
    limit: int
    """Largest coefficient that can be said."""
    merges: tuple[tuple[int, int], ...]
    """Id 2 * limit + 1 + i stands for these two ids, one after the other; both are smaller."""

    def __post_init__(self):
        if not 0 < self.scale < np.inf:
            raise CodecError(f"the scale of a FAST codec must be above 0 and finite, is {self.scale!r}")
        if not 0 < self.limit < 10_000:
            raise CodecError(f"the limit of a FAST codec must be from 1 to 9,999, is {self.limit!r}")
        for number, pair in enumerate(self.merges):
            if len(pair) != 2 or not all(0 <= part < 2 * self.limit + 1 + number for part in pair):
                raise CodecError(f"pair {number} of a FAST codec must be of two smaller ids, is {pair!r}")

    @property
    def size(self) -> int:
        """Number of ids."""
        return 2 * self.limit + 1 + len(self.merges)

    @cached_property
    def expansions(self) -> tuple[tuple[int, ...], ...]:
        """Each id's coefficients."""
        found: list[tuple[int, ...]] = [(coefficient,) for coefficient in range(-self.limit, self.limit + 1)]
        for first, second in self.merges:
            found.append(found[first] + found[second])
        return tuple(found)

    def encode(self, chunk_ND: np.ndarray) -> list[int]:
        """Ids of normalised actions [N, D]. CodecError for a value that is not finite."""
        coefficients = quantised(chunk_ND, self.scale).clip(-self.limit, self.limit)
        return self._tokenizer.encode(_letters(coefficients + self.limit)).ids

    def decode(self, ids: Sequence[int], *, chunk: int) -> np.ndarray:
        """float32 [chunk, D] of ids; CodecError unless they are coefficients for whole steps."""
        coefficients = [coefficient for token in ids for coefficient in self.expansions[token]]
        if not coefficients or len(coefficients) % chunk:
            raise CodecError(f"{len(coefficients)} coefficients are no chunk of {chunk} steps")
        spectrum_ND = np.array(coefficients, np.float64).reshape(chunk, -1) / self.scale
        return (dct_matrix(chunk).T @ spectrum_ND).astype(np.float32)

    def to_json(self) -> str:
        record = {"format": CODEC_FORMAT, "scale": self.scale, "limit": self.limit, "merges": self.merges}
        return json.dumps(record, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "FastCodec":
        """Inverse of `to_json`; CodecError for anything else."""
        try:
            record = json.loads(text)
            if record["format"] != CODEC_FORMAT:
                raise CodecError(f"FAST codec of format {record['format']!r}, this version reads {CODEC_FORMAT}")
            merges = tuple((int(first), int(second)) for first, second in record["merges"])
            return cls(float(record["scale"]), int(record["limit"]), merges)
        except CodecError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise CodecError(f"{text[:40]!r} is no FAST codec: {error!r}") from None

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        tokenizers = _tokenizers()
        texts = [_letters(np.add(coefficients, self.limit)) for coefficients in self.expansions]
        model = tokenizers.models.BPE(
            vocab={text: token for token, text in enumerate(texts)},
            merges=[(texts[first], texts[second]) for first, second in self.merges],
        )
        return tokenizers.Tokenizer(model)


def fit_codec(chunks: Iterable[np.ndarray], *, vocabulary: int = 1024, scale: float = 10.0) -> FastCodec:
    """The codec of at most `vocabulary` ids for normalised chunks, each [N, D] with its own D; the same for the same
    chunks in whatever order.

    `limit` is what any chunk within [-1, 1] needs, or more where the chunks have more, up to a quarter of the
    vocabulary. CodecError for no chunk, or too small a vocabulary for their length.
    """
    spectra = [quantised(chunk, scale).astype(np.int32) for chunk in chunks]
    if not spectra:
        raise CodecError("a FAST codec is fitted to chunks, and there is none; look at the mixture's train split")
    # The values of an orthonormal transform are at most sqrt(N) times those of its input.
    longest = max(len(spectrum) for spectrum in spectra)
    needed = int(np.ceil(longest**0.5 * scale))
    if 2 * needed + 1 > vocabulary:
        raise CodecError(
            f"{vocabulary} ids cannot say every coefficient of {longest} steps at scale {scale:g}: that takes "
            f"{2 * needed + 1}; raise vocabulary or lower scale"
        )
    largest = max(int(np.abs(spectrum).max(initial=0)) for spectrum in spectra)
    limit = max(needed, min(largest, vocabulary // 4))
    texts = sorted(_letters(spectrum.clip(-limit, limit) + limit) for spectrum in spectra)
    return FastCodec(float(scale), limit, _merges(texts, alphabet=2 * limit + 1, vocabulary=vocabulary))


def quantised(chunk_ND: np.ndarray, scale: float) -> np.ndarray:
    """int64 [N, D]: the rounded DCT-II of each slot, lowest frequency first. CodecError for a value that is not
    finite."""
    chunk_ND = np.asarray(chunk_ND, np.float64)
    if not np.isfinite(chunk_ND).all():
        raise CodecError(
            "a normalised action is not finite and has no token; look at the data set's statistics and quality report"
        )
    return np.rint(dct_matrix(len(chunk_ND)) @ chunk_ND * scale).astype(np.int64)


@cache
def dct_matrix(n: int) -> np.ndarray:
    """float64 [N, N], orthonormal DCT-II: row k is the cosine of frequency k."""
    k, t = np.arange(n)[:, None], np.arange(n)
    matrix = np.sqrt(2 / n) * np.cos(np.pi * (t + 0.5) * k / n)
    matrix[0] = np.sqrt(1 / n)
    matrix.setflags(write=False)
    return matrix


def _merges(texts: list[str], *, alphabet: int, vocabulary: int) -> tuple[tuple[int, int], ...]:
    """The pairs that byte-pair encoding finds in texts of the first `alphabet` letters, most frequent first."""
    tokenizers = _tokenizers()
    letters = [chr(_FIRST_LETTER + number) for number in range(alphabet)]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=letters, special_tokens=[], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    # Read off the pairs, not the ids: how a trainer numbers its letters is its own matter.
    model = json.loads(tokenizer.to_str())["model"]
    number_of = {letter: number for number, letter in enumerate(letters)}
    merges: list[tuple[int, int]] = []
    for pair in model["merges"]:
        first, second = pair.split(" ") if isinstance(pair, str) else pair
        if first + second not in number_of:
            number_of[first + second] = alphabet + len(merges)
            merges.append((number_of[first], number_of[second]))
    return tuple(merges)


def _letters(numbers: np.ndarray) -> str:
    return "".join(map(chr, (np.asarray(numbers).ravel() + _FIRST_LETTER).tolist()))


def _tokenizers() -> Any:
    try:
        import tokenizers
        import tokenizers.models
        import tokenizers.trainers
    except ImportError:
        raise ImportError(INSTALL_HINT) from None
    return tokenizers
