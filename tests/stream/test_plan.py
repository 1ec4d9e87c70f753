"""Which spec a published folder gets from the shard job, by the names it goes by."""

import json

import pytest

from oxe_pipeline.stream.format import StreamError
from oxe_pipeline.stream.output_folder import OutputFolder
from oxe_pipeline.stream.plan import ShardOptions, make_plan
from schemas.spec import DATASETS_FOLDER, SpecError
from tests.ingest.published_cases import ALL_CASES
from tests.ingest.published_structure import write_directory


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    pytest.importorskip("tensorflow_datasets")
    return write_directory(tmp_path_factory.mktemp("rlds"), "jaco_play", ALL_CASES["jaco_play"].source())


def planned(folder, tmp_path, spec=""):
    return make_plan(folder, OutputFolder(str(tmp_path / "stream")), ShardOptions(), spec)


def renamed(published, tmp_path, name, folder):
    """A copy that is called `name` by TFDS and lies in `folder`/0.1.0."""
    path = tmp_path / folder / "0.1.0"
    path.mkdir(parents=True)
    for file in published.iterdir():
        path.joinpath(file.name.replace("jaco_play-", f"{name}-")).write_bytes(file.read_bytes())
    info = json.loads((path / "dataset_info.json").read_text())
    (path / "dataset_info.json").write_text(json.dumps(info | {"name": name}))
    return path


def test_a_folder_is_known_by_the_name_tfds_gave_it(published, tmp_path):
    assert planned(published, tmp_path).dataset == "jaco_play"


def test_a_variant_and_a_spec_of_ones_own_are_asked_for_by_name_and_by_path(published, tmp_path):
    assert planned(published, tmp_path, "jaco_play_as_octo").dataset == "jaco_play_as_octo"
    mine = tmp_path / "mine.yaml"
    mine.write_text((DATASETS_FOLDER / "jaco_play.yaml").read_text().replace("name: jaco_play\n", "name: mine\n"))
    assert planned(published, tmp_path, str(mine)).dataset == "mine"


def test_a_folder_under_a_known_name_is_taken_whatever_tfds_calls_its_data(published, tmp_path):
    assert planned(renamed(published, tmp_path, "my_copy", "jaco_play"), tmp_path).dataset == "jaco_play"


def test_what_tfds_calls_the_data_counts_before_the_folder(published, tmp_path):
    assert planned(renamed(published, tmp_path, "jaco_play", "taco_play"), tmp_path).dataset == "jaco_play"


def test_a_name_that_copies_go_by_finds_the_spec_too(published, tmp_path):
    """DROID's files say r2d2_faceblur; its spec is taken, and told when the columns are not DROID's."""
    with pytest.raises(StreamError, match="action_dict/cartesian_velocity: no such key in the source"):
        planned(renamed(published, tmp_path, "r2d2_faceblur", "copy"), tmp_path)


def test_a_folder_of_unknown_name_is_told_with_the_nearest(published, tmp_path):
    path = renamed(published, tmp_path, "jaco_plai", "copy")
    with pytest.raises(SpecError, match=rf"{path} is not unified RLDS, so it needs a spec: .*'jaco_plai'.*jaco_play"):
        planned(path, tmp_path)
    with pytest.raises(SpecError, match=r"no spec for data set 'jako_play'.*; did you mean jaco_play"):
        planned(path, tmp_path, "jako_play")
