"""The model's random numbers: those of counter_rng, with the distributions they claim, whatever lies in the batch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from oxe_pipeline.mixture import counter_rng
from oxe_pipeline.vla.noise import SEED, NoiseStream, counter_bits, counter_normal, counter_uniform

G = torch.arange(1000)


@given(
    g=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5),
    shape=st.lists(st.integers(1, 4), max_size=3).map(tuple),
    stream=st.sampled_from(NoiseStream),
)
def test_the_words_are_bit_for_bit_those_of_the_loaders_counter_rng(g, shape, stream):
    lanes = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    expected = counter_rng.bits(SEED, np.array(g).reshape(-1, *(1 for _ in shape)), stream, lanes)
    assert np.array_equal(counter_bits(torch.tensor(g), shape, stream=stream).numpy().view(np.uint64), expected)


def test_uniform_numbers_are_the_upper_24_bits_of_the_words():
    words = counter_rng.bits(SEED, np.arange(1000), NoiseStream.FLOW_TIME)
    numbers = counter_uniform(G, (), stream=NoiseStream.FLOW_TIME)
    assert numbers.dtype == torch.float32 and numbers.shape == (1000,)
    assert np.array_equal(numbers.double().numpy(), (words >> np.uint64(40)) / 2.0**24)


@pytest.mark.parametrize("draw, distribution", [(counter_uniform, "uniform"), (counter_normal, "norm")])
def test_numbers_follow_their_distribution_over_samples_and_over_places(draw, distribution):
    numbers = draw(G, (8, 5), stream=NoiseStream.DIFFUSION_NOISE).double().numpy()
    assert stats.kstest(numbers.ravel(), distribution).pvalue > 1e-3
    for sequence in (numbers[:, 0, 0], numbers[0].ravel()):
        assert stats.kstest(sequence, distribution).pvalue > 1e-3
    correlation = np.corrcoef(numbers.reshape(1000, -1).T) - np.eye(40)
    assert np.abs(correlation).max() < 5 / np.sqrt(1000)


def test_streams_are_unrelated():
    drawn = np.stack([counter_normal(G, (20,), stream=stream).numpy().ravel() for stream in NoiseStream])
    assert np.abs(np.corrcoef(drawn) - np.eye(len(drawn))).max() < 5 / np.sqrt(20_000)


def test_a_samples_numbers_do_not_depend_on_its_batch_nor_on_the_global_generator():
    torch.manual_seed(0)
    whole = counter_normal(G, (3, 2), stream=NoiseStream.FLOW_NOISE)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    pieces = [counter_normal(piece, (3, 2), stream=NoiseStream.FLOW_NOISE) for piece in G.split(300)]
    assert torch.equal(whole, torch.cat(pieces))
    assert torch.equal(torch.get_rng_state(), state)


def test_autocast_changes_no_number():
    expected = counter_normal(G, (4,), stream=NoiseStream.FLOW_NOISE)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(counter_normal(G, (4,), stream=NoiseStream.FLOW_NOISE), expected)


def test_one_graph_without_breaks_compiles_to_the_same_numbers():
    draw = torch.compile(
        lambda g: counter_normal(g, (3,), stream=NoiseStream.FLOW_NOISE), fullgraph=True, backend="eager"
    )
    assert torch.equal(draw(G), counter_normal(G, (3,), stream=NoiseStream.FLOW_NOISE))


def test_numbers_never_change():
    """By Box and Muller's formula in float64 from the words of counter_rng."""
    drawn = counter_normal(torch.tensor([0, 10**12]), (2,), stream=NoiseStream.DIFFUSION_NOISE)
    expected = torch.tensor([[-0.4793388, -0.7357412], [-0.1009699, 0.5543558]])
    torch.testing.assert_close(drawn, expected, rtol=0, atol=1e-6)
