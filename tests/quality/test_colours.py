"""Red and blue exchanged in one camera, in some episodes, in all; and cameras of good data left in peace."""

import numpy as np
import pytest

from oxe_pipeline.quality import colours
from tests.quality.pictures import bgr, pictured, thumbnails_of


def verdicts(episodes) -> dict[str, str]:
    return {finding.subject: finding.verdict for finding in colours.judge(thumbnails_of(episodes))}


@pytest.mark.parametrize(("name", "other"), [("metaworld_bridge", "secondary"), ("metaworld_libero", "wrist")])
def test_a_camera_of_the_samples_stored_as_bgr_is_suspect_beside_the_other(sample_episodes, name, other):
    episodes = sample_episodes[name]
    assert verdicts(episodes) == {"primary": "unknown", other: "unknown", f"primary+{other}": "ok"}
    (finding,) = [
        finding
        for finding in colours.judge(thumbnails_of(pictured(episodes, other, bgr)))
        if finding.subject == f"primary+{other}"
    ]
    assert finding.verdict == "suspect" and f"{other} is the colder one" in finding.evidence
    assert "colour: bgr" in finding.remedy


def test_a_real_camera_stored_as_bgr_is_suspect_beside_the_other(bridge_episodes):
    assert verdicts(bridge_episodes)["primary+secondary"] == "ok"
    assert verdicts(pictured(bridge_episodes, "secondary", bgr))["primary+secondary"] == "suspect"
    assert verdicts(pictured(bridge_episodes, "primary", bgr))["primary+secondary"] == "suspect"


def test_pictures_without_any_warm_tone_are_suspect_even_alone(sample_episodes):
    alone = [e for e in sample_episodes["metaworld_bridge"]]
    for episode in (planted := pictured(alone, "primary", bgr)):
        episode.images = {"primary": episode.images["primary"]}
    assert verdicts(planted) == {"primary": "suspect"}


def test_some_episodes_stored_unlike_the_rest_are_suspect(sample_episodes):
    planted = pictured(sample_episodes["metaworld_bridge"], "primary", bgr, every=7)
    assert verdicts(planted)["primary"] == "suspect"


def test_grey_pictures_and_few_episodes_are_unknown(sample_episodes):
    grey = pictured(
        sample_episodes["metaworld_bridge"][:8],
        "primary",
        lambda p: np.repeat(p.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8),
    )
    assert verdicts(grey)["primary"] == "unknown"
    few = pictured(sample_episodes["metaworld_bridge"][:3], "primary", bgr)
    assert set(verdicts(few).values()) == {"unknown"}


def test_warm_share_of_known_pictures():
    picture = np.zeros((1, 4, 4, 3), np.uint8)
    assert colours.warm_share(picture) == 0.5
    picture[..., 0] = 90
    assert colours.warm_share(picture) == 1.0
    picture[:, :2, :, 2] = 180
    assert colours.warm_share(picture) == 0.5
