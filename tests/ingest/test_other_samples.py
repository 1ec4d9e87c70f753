"""Samples of pickles, Zarr stores, bags and RoboNet: what their commands write, the reader reads and the audits
believe."""

import functools
from importlib import import_module

import pytest

from oxe_pipeline.ingest import adroit, bag, furniture_bench, robonet, zarr_replay
from oxe_pipeline.ingest.apply_spec import apply_spec
from schemas.spec import load_spec
from tests.quality.motions import judged

for package in ("h5py", "av", "rosbags", "mcap", "zarr", "imagecodecs"):
    pytest.importorskip(package)


def read_all(reader, root, spec, **options):
    find = {adroit: functools.partial(adroit.find_episodes, environment="door-v0")}.get(reader, reader.find_episodes)
    return [reader.read_episode(key, root=root, **options) for key in find(root)]


def read_bags(root, spec):
    return [bag.read_episode(key, root=root, spec=spec) for key in bag.find_episodes(root, spec)]


LAYOUTS = {
    "adroit_door": ("adroit", [], functools.partial(read_all, adroit), set()),
    "furniture_bench": ("furniture_bench", [], functools.partial(read_all, furniture_bench), {"motion_axes"}),
    "robonet_raw": ("robonet", [], functools.partial(read_all, robonet), {"motion_axes"}),
    "rosbag_arm": ("rosbag", [], read_bags, {"motion_axes", "motion_scale"}),
    "pusht_zarr": ("zarr_replay", [], functools.partial(read_all, zarr_replay), {"motion_axes", "motion_lag"}),
    "diffusion_policy_real": (
        "zarr_replay",
        ["--layout", "real"],
        functools.partial(read_all, zarr_replay, videos=("0", "1")),
        {"motion_axes", "motion_scale"},
    ),
    "umi_bimanual": (
        "zarr_replay",
        ["--layout", "umi_bimanual"],
        functools.partial(read_all, zarr_replay),
        {"motion_axes", "motion_scale"},
    ),
}


@pytest.mark.parametrize("spec_name", LAYOUTS)
def test_a_sample_is_read_as_its_spec_says_and_no_audit_contradicts(spec_name, tmp_path):
    layout, options, read, proven = LAYOUTS[spec_name]
    main = import_module(f"samples.{layout}_layout").main
    assert main(["--out", str(tmp_path / "raw"), *options]) == 0
    spec = load_spec(spec_name)
    episodes = [apply_spec(source, spec) for source in read(tmp_path / "raw", spec)]
    found = judged(episodes, spec=spec)
    assert len({episode.episode_id for episode in episodes}) == 6
    assert [finding.evidence for finding in found.values() if finding.verdict == "fault"] == []
    verdicts = {(audit, finding.verdict) for (audit, _), finding in found.items() if audit in proven}
    assert verdicts == {(audit, "ok") for audit in proven}
