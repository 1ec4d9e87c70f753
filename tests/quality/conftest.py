"""Good data for every audit, made or read once: a synthetic robot, the recorded samples, real published episodes."""

import pytest

from oxe_pipeline.episode import Episode
from oxe_pipeline.ingest import bridge_raw, hdf5_demo
from oxe_pipeline.ingest.apply_spec import apply_spec
from oxe_pipeline.ingest.rlds import RldsDirectory
from schemas.spec import load_spec
from tests.conftest import ROOT
from tests.quality.motions import robot_episodes


@pytest.fixture(scope="session")
def good_episodes() -> list[Episode]:
    return robot_episodes()


@pytest.fixture(scope="session")
def sample_episodes() -> dict[str, list[Episode]]:
    """Data set name -> its recorded episodes, as a builder reads them."""
    found = {}
    for name, reader in (("metaworld_bridge", bridge_raw), ("metaworld_libero", hdf5_demo)):
        root, spec = ROOT / "samples" / name, load_spec(name)
        found[name] = [apply_spec(reader.read_episode(key, root=root), spec) for key in reader.find_episodes(root)]
    return found


@pytest.fixture(scope="session")
def bridge_episodes(real_data) -> list[Episode]:
    """25 real episodes of BridgeData V2."""
    directory, spec = RldsDirectory(real_data / "bridge_rlds"), load_spec("bridge_dataset")
    return [apply_spec(source, spec) for source in directory.read_source(directory.splits["train"].files[0], "train")]
