"""A few damaged files for every raw reader: what comes out is an episode or a DataError. `python -m benchmarks.fuzz`
makes many more of the same, in processes of their own; docs/untrusted_files.md has its result."""

import shutil

import pytest

from benchmarks.fuzz.attempt import OUTSIDE, Bench
from benchmarks.fuzz.formats import FORMATS

for package in ("av", "h5py", "imagecodecs", "pyarrow", "rosbags", "zarr"):
    pytest.importorskip(package)

INPUTS, SEED = 6, 100
WRITTEN_BY_TFDS = {"rlds"}


@pytest.mark.parametrize("name", sorted(FORMATS))
@pytest.mark.filterwarnings("ignore")  # absurd numbers overflow on their way to float32
def test_damage_is_a_data_error_or_is_not_noticed(tmp_path, name):
    if name in WRITTEN_BY_TFDS:
        pytest.importorskip("tensorflow_datasets")
    (tmp_path / "original").mkdir()
    FORMATS[name].write(tmp_path / "original")
    shutil.copytree(tmp_path / "original", tmp_path / OUTSIDE)
    bench = Bench(folder=tmp_path, name=name, format=FORMATS[name], seed=SEED)
    tried = [bench.attempt(number) for number in range(INPUTS)]
    assert not [attempt for attempt in tried if attempt.outcome == "fault"]
    assert {attempt.outcome for attempt in tried} & {"quarantined", "refused", "accepted"}
