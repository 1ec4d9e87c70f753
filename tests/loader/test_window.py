"""Windows of a batch against a slow reference: one sample, one slot at a time, straight from the definition."""

import numpy as np
import pytest

from oxe_pipeline.loader.columns import NumericColumns
from oxe_pipeline.loader.options import BatchOptions
from oxe_pipeline.loader.window import Samples, dataset_parts, kind_masks
from oxe_pipeline.stats.normalizer import NormalizerConfig
from schemas.slots import ACTION_NAMES
from tests.loader.conftest import SPEC

RAW = NormalizerConfig(mode="none")


def every_sample(mixture) -> Samples:
    places = [
        (d, episode, step)
        for d, dataset in enumerate(mixture.datasets)
        for episode in range(len(dataset.stream.episodes))
        for step in range(int(dataset.stream.episodes.length[episode]))
    ]
    shuffled = np.random.default_rng(0).permutation(np.array(places, np.int64))
    return Samples(np.arange(len(places)), *shuffled.T)


def read(mixture, options: BatchOptions, samples: Samples) -> dict:
    streams = [d.stream for d in mixture.datasets]
    return NumericColumns(streams, options).read(samples, dataset_parts(streams, samples))


def reference(stream, episode: int, step: int, chunk: int, history: int) -> dict:
    """One sample in units, by loops."""
    length = int(stream.episodes.length[episode])
    state, action = np.zeros((history, 40)), np.zeros((chunk, 32))
    history_mask, pad_mask = np.zeros(history, bool), np.zeros(chunk, bool)
    kinds: dict[str, str] = {}
    for channel in stream.manifest.spec.get("action", []):
        kinds |= {name: channel.get("kind", "absolute") for name in ACTION_NAMES if name.startswith(channel["slots"])}
    for t in range(history):
        wanted = step - (history - 1) + t
        history_mask[t] = wanted >= 0
        for column, slot in enumerate(stream.manifest.state_slots):
            state[t, slot] = stream.vector("state", episode)[max(wanted, 0)][column]
    for t in range(chunk):
        pad_mask[t] = step + t < length
        for column, slot in enumerate(stream.manifest.action_slots):
            if pad_mask[t]:
                action[t, slot] = stream.vector("action", episode)[step + t][column]
            elif kinds.get(ACTION_NAMES[slot], "absolute") == "absolute":
                action[t, slot] = stream.vector("action", episode)[length - 1][column]
    return {"state": state, "action": action, "history_mask": history_mask, "action_pad_mask": pad_mask}


@pytest.mark.parametrize(("chunk", "history"), [(1, 1), (4, 2), (40, 15)])
def test_windows_padding_and_masks_equal_a_slow_reference_at_every_step_of_every_episode(mixture, chunk, history):
    options = BatchOptions(chunk=chunk, history=history, normalizer=RAW)
    samples = every_sample(mixture)
    got = read(mixture, options, samples)
    for i in range(len(samples)):
        stream = mixture.datasets[samples.dataset[i]].stream
        expected = reference(stream, int(samples.episode[i]), int(samples.step[i]), chunk, history)
        for name, value in expected.items():
            np.testing.assert_array_equal(got[name][i], value.astype(got[name].dtype), err_msg=f"{name} of sample {i}")
        assert got["control_hz"][i] == stream.manifest.control_hz
        assert np.flatnonzero(got["action_mask"][i]).tolist() == stream.manifest.action_slots
        assert np.flatnonzero(got["state_mask"][i]).tolist() == stream.manifest.state_slots


def test_each_row_is_normalised_by_its_own_data_set_and_masked_slots_stay_zero(mixture):
    streams = [d.stream for d in mixture.datasets]
    samples = every_sample(mixture)
    raw = read(mixture, BatchOptions(chunk=3, normalizer=RAW), samples)
    got = read(mixture, BatchOptions(chunk=3), samples)
    for d, stream in enumerate(streams):
        rows = samples.dataset == d
        for slot in stream.manifest.action_slots:
            numbers = stream.manifest.statistics["action"][ACTION_NAMES[slot]]
            if ACTION_NAMES[slot].endswith("gripper"):
                expected = raw["action"][rows, :, slot]
            else:
                low, high = numbers["q01"], numbers["q99"]
                expected = 2 * (raw["action"][rows, :, slot] - low) / (high - low) - 1
            np.testing.assert_allclose(got["action"][rows, :, slot], expected, rtol=1e-4, atol=1e-4)
    for name in ("action", "state"):
        masked = np.broadcast_to(~got[f"{name}_mask"][:, None], got[name].shape)
        assert (got[name][masked] == 0).all()


def test_clipping_is_the_normalizers(mixture):
    options = BatchOptions(chunk=2, normalizer=NormalizerConfig(clip=1.0))
    action = read(mixture, options, every_sample(mixture))["action"]
    free = read(mixture, BatchOptions(chunk=2), every_sample(mixture))["action"]
    assert np.abs(free).max() > 1
    np.testing.assert_array_equal(action, np.clip(free, -1, 1))


def test_kinds_of_slots_come_from_the_spec_and_default_to_absolute():
    delta, velocity = kind_masks(SPEC)
    assert np.flatnonzero(delta).tolist() == [0, 1, 2]
    assert np.flatnonzero(velocity).tolist() == [3, 4, 5]
    assert not any(mask.any() for mask in kind_masks({}))
