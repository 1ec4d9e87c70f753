"""Images upside down: by what the rising hand does in them, and by the other episodes of the camera."""

import numpy as np

from oxe_pipeline.quality import upright
from tests.quality.pictures import pictured, thumbnails_of, upside_down


def found(episodes, camera="primary"):
    (finding,) = [f for f in upright.judge(thumbnails_of(episodes)) if f.subject == camera]
    return finding


def test_a_camera_whose_image_rises_with_the_hand_is_ok_and_turned_it_is_suspect(sample_episodes):
    episodes = sample_episodes["metaworld_libero"]
    assert found(episodes).verdict == "ok"
    turned = found(pictured(episodes, "primary", upside_down))
    assert turned.verdict == "suspect" and turned.numbers["correlation"] < -0.5 and "flip" in turned.remedy


def test_cameras_that_cannot_tell_are_unknown_never_suspect(sample_episodes, bridge_episodes):
    assert found(sample_episodes["metaworld_libero"], "wrist").verdict == "unknown"
    assert found(sample_episodes["metaworld_bridge"]).verdict == "unknown"
    assert found(bridge_episodes).verdict == "ok"
    assert found(bridge_episodes, "secondary").verdict == "unknown"


def test_some_episodes_upside_down_are_suspect_in_any_camera(sample_episodes):
    bridge = pictured(sample_episodes["metaworld_bridge"], "primary", upside_down, every=6)
    assert found(bridge).verdict == "suspect" and found(bridge).numbers["turned"] >= 4


def test_partial_correlation_is_that_of_the_residuals():
    rng = np.random.default_rng(0)
    given = rng.normal(size=(500, 2))
    third = given @ [1.0, -2.0] + rng.normal(size=500)
    fourth = given @ [0.5, 1.5] + 0.8 * third + rng.normal(size=500)
    values = np.column_stack([given, third, fourth])
    values -= values.mean(axis=0)
    residuals = [column - given @ np.linalg.lstsq(given, column, rcond=None)[0] for column in (third, fourth)]
    expected = np.corrcoef(*residuals)[0, 1]
    assert abs(upright.partial_correlation(values.T @ values) - expected) < 0.01
