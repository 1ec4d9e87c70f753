import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from oxe_pipeline.vla.fast_codec import CodecError, FastCodec, dct_matrix, fit_codec
from tests.vla.smooth_chunks import smooth_chunks

CHUNK = 12


@pytest.fixture(scope="module")
def codec() -> FastCodec:
    return fit_codec(smooth_chunks(300, chunk=CHUNK) + smooth_chunks(100, chunk=CHUNK, slots=14, seed=1))


def within(low: float, high: float):
    """Chunks of any number of slots with values in a range."""
    return st.integers(1, 9).flatmap(lambda slots: arrays(np.float64, (CHUNK, slots), elements=st.floats(low, high)))


@given(n=st.integers(1, 60))
@settings(max_examples=20)
def test_the_transform_is_the_orthonormal_dct_of_its_definition(n):
    matrix, values = dct_matrix(n), np.random.default_rng(n).normal(size=n)
    for k in (0, n // 2, n - 1):
        plain = sum(value * math.cos(math.pi / n * (t + 0.5) * k) for t, value in enumerate(values))
        assert matrix[k] @ values == pytest.approx(plain * math.sqrt((1 if k == 0 else 2) / n), abs=1e-9)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(n), atol=1e-9)


@given(chunk=within(-1, 1))
def test_a_round_trip_within_the_normalised_range_is_off_by_no_more_than_rounding_allows(codec, chunk):
    """Each of N coefficients is off by half at most, so their vector by sqrt(N)/2; an orthonormal transform keeps
    lengths, and no value is off by more than the vector is long."""
    back = codec.decode(codec.encode(chunk), chunk=CHUNK)
    assert back.shape == chunk.shape and back.dtype == np.float32
    bound = math.sqrt(CHUNK) / 2 / codec.scale
    assert np.linalg.norm(back - chunk, axis=0).max() <= bound + 1e-5


@given(chunk=within(-1e6, 1e6))
def test_every_chunk_has_a_code_and_its_coefficients_are_cut_at_the_limit(codec, chunk):
    ids = codec.encode(chunk)
    assert all(0 <= token < codec.size for token in ids)
    back = dct_matrix(CHUNK) @ codec.decode(ids, chunk=CHUNK).astype(np.float64) * codec.scale
    expected = np.rint(dct_matrix(CHUNK) @ chunk * codec.scale).clip(-codec.limit, codec.limit)
    np.testing.assert_allclose(back, expected, atol=1e-3)


def test_coefficients_stand_low_frequencies_first_all_slots_together():
    codec = FastCodec(scale=10.0, limit=20, merges=())
    spectrum = np.zeros((3, 2))
    spectrum[0], spectrum[1], spectrum[2] = (1.0, -2.0), (0.3, 0.0), (0.0, 1.1)
    assert codec.encode(dct_matrix(3).T @ spectrum) == [20 + c for c in (10, -20, 3, 0, 0, 11)]


def test_frequent_neighbours_are_one_token():
    codec = FastCodec(scale=10.0, limit=2, merges=((2, 2), (5, 5), (3, 6)))  # 0 0, then 0 0 0 0, then 1 0 0 0 0.
    assert codec.expansions[5:] == ((0, 0), (0, 0, 0, 0), (1, 0, 0, 0, 0))
    assert codec.encode(dct_matrix(5).T @ np.array([[0.1], [0], [0], [0], [0]])) == [7]
    np.testing.assert_allclose(codec.decode([7], chunk=5), np.full((5, 1), 0.1 / math.sqrt(5)), atol=1e-6)


def test_smooth_chunks_take_several_times_fewer_tokens_than_values_and_more_so_the_longer_they_are():
    ratios = []
    for chunk in (8, 32):
        codec = fit_codec(smooth_chunks(400, chunk=chunk))
        fresh = smooth_chunks(50, chunk=chunk, seed=9)
        ratios.append(50 * chunk * 7 / sum(len(codec.encode(values)) for values in fresh))
    assert ratios[0] > 2 and ratios[1] > 6


def test_fitting_again_and_in_another_order_gives_the_same_codec():
    chunks = smooth_chunks(120, chunk=6)
    assert fit_codec(chunks) == fit_codec(chunks) == fit_codec(chunks[::-1])


def test_a_codec_goes_through_json_unchanged(codec):
    again = FastCodec.from_json(json.loads(json.dumps(codec.to_json())))
    assert again == codec
    for chunk in smooth_chunks(20, chunk=CHUNK, seed=5):
        assert again.encode(chunk) == codec.encode(chunk)


@given(vocabulary=st.integers(90, 400), scale=st.floats(1, 12))
@settings(max_examples=15)
def test_the_vocabulary_is_never_exceeded_and_holds_every_coefficient_up_to_the_limit(vocabulary, scale):
    codec = fit_codec([4 * chunk for chunk in smooth_chunks(30, chunk=CHUNK)], vocabulary=vocabulary, scale=scale)
    assert codec.size <= vocabulary
    assert codec.expansions[: 2 * codec.limit + 1] == tuple((c,) for c in range(-codec.limit, codec.limit + 1))
    assert codec.limit >= math.sqrt(CHUNK) * scale, "what chunks within [-1, 1] can need"


def test_what_cannot_be_coded_is_refused_with_the_reason(codec):
    with pytest.raises(CodecError, match="takes 71; raise vocabulary or lower scale"):
        fit_codec(smooth_chunks(3, chunk=CHUNK), vocabulary=64)
    with pytest.raises(CodecError, match="there is none"):
        fit_codec([])
    with pytest.raises(CodecError, match="not finite"):
        codec.encode(np.full((CHUNK, 2), np.nan))
    with pytest.raises(CodecError, match="3 coefficients are no chunk of 12 steps"):
        codec.decode([0, 0, 0], chunk=CHUNK)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format":2,"scale":10,"limit":3,"merges":[]}',
        '{"format":1,"scale":0,"limit":3,"merges":[]}',
        '{"format":1,"scale":10,"limit":0,"merges":[]}',
        '{"format":1,"scale":10,"limit":3,"merges":[[0,7]]}',
        '{"format":1,"scale":10,"limit":3,"merges":[[0]]}',
    ],
)
def test_a_text_that_is_no_codec_is_refused(text):
    with pytest.raises(CodecError):
        FastCodec.from_json(text)
