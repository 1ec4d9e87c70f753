"""Every decompressor gives what was compressed, and stops at its limit."""

import bz2
import gzip
import lzma
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.ingest.bounded_decompression import (
    TooLarge,
    decompress_bz2,
    decompress_lz4_frame,
    decompress_lzma,
    decompress_zlib,
    decompress_zstd,
)

zstandard = pytest.importorskip("zstandard")
lz4_frame = pytest.importorskip("lz4.frame")

PAIRS = {
    "zlib": (zlib.compress, decompress_zlib),
    "gzip": (gzip.compress, decompress_zlib),
    "bz2": (bz2.compress, decompress_bz2),
    "lzma": (lzma.compress, decompress_lzma),
    "zstd": (zstandard.ZstdCompressor().compress, decompress_zstd),
    "lz4": (lz4_frame.compress, decompress_lz4_frame),
}


@given(data=st.binary(max_size=2000), name=st.sampled_from(sorted(PAIRS)))
def test_what_was_compressed_comes_back_when_it_just_fits(data, name):
    compress, decompress = PAIRS[name]
    assert decompress(compress(data), len(data)) == data


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_one_byte_too_many_is_refused_and_a_bomb_costs_no_memory(name):
    compress, decompress = PAIRS[name]
    bomb = compress(bytes(1 << 25))
    with pytest.raises(TooLarge, match="more than the 999 bytes"):
        decompress(compress(bytes(1000)), 999)
    tracemalloc.start()
    with pytest.raises(TooLarge):
        decompress(bomb, 1 << 16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 24


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_damaged_data_is_a_value_error(name):
    _, decompress = PAIRS[name]
    for damaged in (b"", b"no such thing"):
        with pytest.raises(ValueError, match=r"^not |ends too early"):
            decompress(damaged, 1 << 20)


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_data_that_ends_too_early_is_a_value_error(name):
    compress, decompress = PAIRS[name]
    packed = compress(bytes(range(256)) * 40)
    with pytest.raises(ValueError):
        decompress(packed[: len(packed) // 2], 1 << 20)
