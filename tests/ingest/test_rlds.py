"""The RLDS reader against TFDS itself: the same files, every value and dtype equal."""

import json

import numpy as np
import pytest

from oxe_pipeline.episode import DataError
from oxe_pipeline.ingest.features_json import RldsError
from oxe_pipeline.ingest.rlds import RldsDirectory
from tests.ingest.tfds_sample import every_feature, make_examples, write_tfds

FORMATS = ("tfrecord", "parquet")  # TFDS cannot read ArrayRecord into a tf.data data set


def tfds_episodes(path, split="train"):
    """Episodes as TFDS reads them: nested dicts, `steps` as a list of nested dicts; images undecoded."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(path))

    def skip_images(feature):
        if isinstance(feature, tfds.features.Image):
            return tfds.decode.SkipDecoding()
        if isinstance(feature, tfds.features.FeaturesDict):
            return {key: skipped for key, child in feature.items() if (skipped := skip_images(child)) is not None}
        if isinstance(feature, tfds.features.Sequence | tfds.features.Dataset):
            return skip_images(feature.feature)
        return None

    decoders = skip_images(builder.info.features)
    data = builder.as_dataset(split=split, decoders=decoders, shuffle_files=False)
    for episode in data:
        steps = list(tfds.as_numpy(episode.pop("steps")))
        yield tfds.as_numpy(episode), steps


def flatten(value, prefix=""):
    if not isinstance(value, dict):
        return {prefix[:-1]: value}
    return {k: v for name, child in value.items() for k, v in flatten(child, f"{prefix}{name}/").items()}


def assert_same(ours, theirs, where):
    if hasattr(theirs, "to_list"):  # a ragged tensor
        theirs = [np.asarray(row) for row in theirs.to_list()]
        assert [list(row) for row in ours] == [list(row) for row in theirs], where
        return
    theirs = np.asarray(theirs)
    if theirs.dtype == object:
        assert np.asarray(ours, object).tolist() == theirs.tolist(), where
    else:
        assert np.asarray(ours).dtype == theirs.dtype, where
        np.testing.assert_array_equal(ours, theirs, err_msg=where)


def assert_same_as_tfds(path, split="train"):
    directory = RldsDirectory(path)
    ours = [e for file in directory.splits[split].files for e in directory.read_source(file, split)]
    theirs = list(tfds_episodes(path, split))
    assert len(ours) == len(theirs) == directory.splits[split].num_examples
    for episode, (metadata, steps) in zip(ours, theirs, strict=True):
        metadata = flatten(metadata)
        assert metadata.keys() == episode.metadata.keys()
        for key, value in metadata.items():
            assert_same(episode.metadata[key], value, key)
        for number, step in enumerate(steps):
            step = flatten(step)
            assert step.keys() == episode.steps.keys()
            for key, value in step.items():
                assert len(episode.steps[key]) == len(steps)
                assert_same(episode.steps[key][number], value, f"{key}[{number}]")


@pytest.fixture(scope="module", params=FORMATS)
def sample(request, tmp_path_factory):
    return write_tfds(
        tmp_path_factory.mktemp(request.param),
        every_feature(),
        {"train": make_examples(episodes=5)},
        file_format=request.param,
    )


def test_every_feature_reads_exactly_as_tfds_reads_it(sample):
    assert_same_as_tfds(sample)


def test_array_record_files_hold_the_same_episodes_as_tfrecord_files(tmp_path):
    import pickle

    read = {}
    for file_format in ("tfrecord", "array_record"):
        path = write_tfds(
            tmp_path / file_format,
            every_feature(),
            {"train": make_examples(episodes=5)},
            file_format=file_format,
            shards=2,
        )
        files = RldsDirectory(path).splits["train"].files
        assert len(files) == 2
        read[file_format] = [(e.steps, e.metadata) for file in files for e in RldsDirectory(path).read_source(file)]
    assert len(read["tfrecord"]) == 5
    assert pickle.dumps(read["tfrecord"]) == pickle.dumps(read["array_record"])


def test_real_bridge_episodes_read_exactly_as_tfds_reads_them(real_data):
    assert_same_as_tfds(real_data / "bridge_rlds/bridge_dataset/1.0.0")


def test_a_declared_split_without_its_files_is_reported_and_the_other_reads(real_data):
    directory = RldsDirectory(real_data / "bridge_rlds")
    assert directory.name == "bridge_dataset" and directory.version == "1.0.0"
    assert directory.splits["train"].num_examples == 25 and not directory.splits["train"].missing
    assert directory.splits["val"].files == []
    assert directory.splits["val"].missing == ["bridge_dataset-val.tfrecord-00000-of-00001"]


def test_the_reader_does_not_load_tensorflow(sample):
    import subprocess
    import sys

    code = (
        "import sys; from oxe_pipeline.ingest.rlds import RldsDirectory as R\n"
        f"d = R({str(sample)!r}); n = sum(1 for f in d.splits['train'].files for _ in d.read_source(f))\n"
        "print(n, [m for m in ('tensorflow', 'tensorflow_datasets', 'apache_beam') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == ["5", "[]\n"]


@pytest.fixture
def small_rlds(tmp_path):
    """A directory of one file, written by hand but for its name."""
    step = {"featuresDict": {"features": {"action": tensor("float64")}}}
    features = {"featuresDict": {"features": {"steps": {"sequence": {"feature": step, "length": "-1"}}}}}
    path = tmp_path / "sample" / "1.0.0"
    path.mkdir(parents=True)
    (path / "features.json").write_text(json.dumps(features))
    info = {"name": "sample", "version": "1.0.0", "splits": [{"name": "train", "shardLengths": ["1"]}]}
    (path / "dataset_info.json").write_text(json.dumps(info))
    (path / "sample-train.tfrecord-00000-of-00001").touch()
    assert RldsDirectory(path).splits["train"].files
    return path


def tensor(dtype: str) -> dict:
    return {"tensor": {"shape": {"dimensions": ["7"]}, "dtype": dtype, "encoding": "none"}}


def test_a_record_of_another_layout_is_refused_with_its_key(tmp_path):
    path = write_tfds(tmp_path, every_feature(), {"train": make_examples(episodes=1)})
    features = json.loads((path / "features.json").read_text())
    tree = features.get("content", features)["featuresDict" if "featuresDict" in features else "features"]
    steps = tree["features"]["steps"] if "features" in tree else tree["steps"]
    steps["sequence"]["feature"]["featuresDict"]["features"]["action"]["tensor"]["shape"]["dimensions"] = ["11"]
    (path / "features.json").write_text(json.dumps(features))
    directory = RldsDirectory(path)
    with pytest.raises(DataError, match=r"train\.tfrecord-00000-of-00001#0.*steps/action"):
        list(directory.read_source(directory.splits["train"].files[0]))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"featuresDict": {"features": {}}}',
        '{"featuresDict": {"features": {"steps": {"dataset": {}}}}}',
        '{"featuresDict": {"features": {"n": {"tensor": {"shape": {"dimensions": [1e999]}}}}}}',
    ],
)
def test_a_features_file_that_is_not_rlds_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "dataset_info.json").write_text('{"name": "x", "version": "1.0.0"}')
    (tmp_path / "features.json").write_text(content)
    with pytest.raises(RldsError, match=r"features\.json") as caught:
        RldsDirectory(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "splits",
    [
        "[{}]",
        '["train"]',
        "3",
        '[{"name": "train", "shardLengths": ["many"]}]',
        '[{"name": "train", "shardLengths": [1e999]}]',
        '[{"name": 1, "shardLengths": 2}]',
    ],
)
def test_damaged_split_information_is_refused_in_one_line(tmp_path, splits):
    path = write_tfds(tmp_path, every_feature(), {"train": make_examples(episodes=1)})
    (path / "dataset_info.json").write_text(f'{{"name": "x", "version": "1.0.0", "splits": {splits}}}')
    with pytest.raises(RldsError, match=r"dataset_info\.json: .*; copy the file again") as caught:
        RldsDirectory(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("split", "reason"),
    [
        ({"name": "/../../../outside"}, "leads out of the raw folder"),
        ({"filepathTemplate": "../{DATASET}-{SPLIT}"}, "leads out of the raw folder"),
        ({"filepathTemplate": "/etc/passwd"}, "leads out of the raw folder"),
        ({"filepathTemplate": "{0.__class__}{SPLIT:>999999999999}"}, ""),
        ({"filepathTemplate": "{NO_SUCH_WORD}"}, "KeyError"),
        ({"name": "x" * 10_000}, "File name too long"),
        ({"shardLengths": [10**30]}, "shardLengths are from 0 to 1048576"),
        ({"shardLengths": [-1]}, "shardLengths are from 0 to 1048576"),
    ],
)
def test_names_and_numbers_in_metadata_reach_no_other_file_and_take_no_memory(small_rlds, split, reason):
    info = {"name": "x", "version": "1.0.0", "splits": [{"name": "train", "shardLengths": [1], **split}]}
    (small_rlds / "dataset_info.json").write_text(json.dumps(info))
    if not reason:
        assert not RldsDirectory(small_rlds).splits["train"].files
        return
    with pytest.raises(RldsError, match=reason):
        RldsDirectory(small_rlds)


@pytest.mark.parametrize("name", ["features.json", "dataset_info.json", "sample-train.tfrecord-00000-of-00001"])
def test_links_out_of_the_folder_are_refused(small_rlds, name):
    (small_rlds / name).rename(small_rlds.parent / name)
    (small_rlds / name).symlink_to(small_rlds.parent / name)
    with pytest.raises(RldsError, match="leads out of the raw folder"):
        RldsDirectory(small_rlds)


@pytest.mark.parametrize("dtype", ["S1000000000", "V8", "O", "datetime64[s]"])
def test_a_dtype_that_is_no_number_is_refused(small_rlds, dtype):
    features = (small_rlds / "features.json").read_text()
    (small_rlds / "features.json").write_text(features.replace('"float64"', json.dumps(dtype)))
    with pytest.raises(RldsError, match="no dtype of numbers"):
        RldsDirectory(small_rlds)


def test_a_folder_that_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(RldsError, match="tfds build"):
        RldsDirectory(tmp_path)
    with pytest.raises(RldsError, match="no such folder"):
        RldsDirectory(tmp_path / "absent")
