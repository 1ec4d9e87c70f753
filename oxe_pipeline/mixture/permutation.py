"""A keyed permutation of range(n), computed one index at a time: a shuffle of a thousand million windows in no memory.

A Feistel network with modular addition on Z_a x Z_b, a * b >= n, and cycle walking for what lies beyond n (Black and
Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002). a is about the square root of n, so that hardly any
index has to walk: a shifting network over powers of two would walk up to half of them, over and over. It mixes well
enough that no test here tells it from a random shuffle, but eight cheap rounds are no cipher: do not hide anything with
it.
"""

import numpy as np
from numpy.typing import ArrayLike

MAX_N = 1 << 48
"""Halves stay below 2^25, so a 39-bit fraction scaled to them fits 64 bits."""

_ROUNDS = 8
_ROUND_STEP = 0xA0761D6478BD642F
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_FRACTION_BITS = np.uint64(39)
_FRACTION_SHIFT = np.uint64(64 - 39)


def permute(index: ArrayLike, n: ArrayLike, key: ArrayLike) -> np.ndarray:
    """int64: where `index` stands in the permutation of range(n) that belongs to `key`.

    `index` int [...] in [0, n), `n` int in [1, 2^48], `key` uint64; all broadcast together, so one call may mix
    permutations of different lengths and keys. ValueError for anything out of range.
    """
    index, n, key = np.broadcast_arrays(
        np.asarray(index, np.int64), np.asarray(n, np.int64), np.asarray(key, np.uint64)
    )
    shape = index.shape
    index, n, key = index.ravel(), n.ravel(), key.ravel()
    if not index.size:
        return np.zeros(shape, np.int64)
    if n.min() < 1 or n.max() > MAX_N:
        raise ValueError(f"n must be 1 to 2^48, is {n.min() if n.min() < 1 else n.max()}")
    if index.min() < 0 or (index >= n).any():
        raise ValueError(f"index {index[(index < 0) | (index >= n)][0]} is not in range(n)")
    a, b = _factors(n)
    bound = n.view(np.uint64)
    out = _network(index.view(np.uint64), a, b, key)
    walking = np.flatnonzero(out >= bound)
    while walking.size:
        out[walking] = _network(out[walking], a[walking], b[walking], key[walking])
        walking = walking[out[walking] >= bound[walking]]
    return out.view(np.int64).reshape(shape)


def _factors(n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint64 a = ceil(sqrt(n)) and the least b with a * b >= n."""
    root = np.sqrt(n.astype(np.float64)).astype(np.int64)
    root += root * root < n  # Exact: below 2^48 the float64 root is off by less than one.
    return root.view(np.uint64), (-(-n // root)).view(np.uint64)


def _network(index: np.ndarray, a: np.ndarray, b: np.ndarray, key: np.ndarray) -> np.ndarray:
    left, right = np.divmod(index, b)
    for number in range(_ROUNDS):
        if number % 2 == 0:
            left = _add(left, _round(right, number, a, key), a)
        else:
            right = _add(right, _round(left, number, b, key), b)
    return left * b + right


def _round(half: np.ndarray, number: int, modulus: np.ndarray, key: np.ndarray) -> np.ndarray:
    """uint64 in [0, modulus), a keyed function of the other half."""
    word = key + np.uint64((number + 1) * _ROUND_STEP & (1 << 64) - 1)
    word ^= half
    word *= _MULTIPLIERS[0]
    word ^= word >> np.uint64(32)
    word *= _MULTIPLIERS[1]
    # Only the top bits are used: they depend on every bit below, so this needs no last folding.
    word >>= _FRACTION_SHIFT
    word *= modulus
    word >>= _FRACTION_BITS
    return word


def _add(half: np.ndarray, change: np.ndarray, modulus: np.ndarray) -> np.ndarray:
    change += half
    # Below the modulus the difference wraps around to a huge number, so the smaller one is the remainder.
    return np.minimum(change, change - modulus)
