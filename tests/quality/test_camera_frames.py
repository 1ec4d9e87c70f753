"""Black, frozen, repeated and doubled cameras, planted in recorded episodes."""

from dataclasses import replace

import numpy as np
import pytest
import simplejpeg

from oxe_pipeline.ingest.images import encode
from oxe_pipeline.quality import camera_frames
from oxe_pipeline.quality.audits import measure
from oxe_pipeline.quality.idle_steps import moving_steps
from tests.quality.motions import judged

BLACK = np.zeros((128, 128, 3), np.uint8)


@pytest.fixture(scope="module")
def episodes(sample_episodes):
    return sample_episodes["metaworld_bridge"][:20]


def with_frames(episodes, camera, change, *, every=1):
    """Every so-manieth episode with `change(frames)` in place of the camera's frames."""
    return [
        replace(episode, images={**episode.images, camera: change(episode.images[camera])})
        if number % every == 0 and camera in episode.images
        else episode
        for number, episode in enumerate(episodes)
    ]


@pytest.mark.parametrize(
    "black", [simplejpeg.encode_jpeg(BLACK, quality=95), encode(BLACK, png=True)], ids=["jpeg", "png"]
)
def test_black_episodes_are_a_fault_and_carry_the_flag(episodes, black):
    planted = with_frames(episodes, "primary", lambda frames: [black] * len(frames), every=10)
    found = judged(planted)["black_frames", "primary"]
    assert found.verdict == "fault" and found.numbers["black_episodes"] == 2
    assert measure(planted[0]).flags == ("black_camera",) and measure(planted[1]).flags == ()
    both = with_frames(planted, "secondary", lambda frames: [black] * len(frames), every=10)
    alarms = {key for key, finding in judged(both).items() if finding.verdict in ("suspect", "fault")}
    assert alarms == {("black_frames", "primary"), ("black_frames", "secondary")}, "not frozen, repeated, the same too"


def test_one_black_frame_is_suspect(episodes):
    black = simplejpeg.encode_jpeg(BLACK, quality=95)
    planted = with_frames(episodes, "primary", lambda frames: [*frames[:-1], black], every=20)
    found = judged(planted)["black_frames", "primary"]
    assert found.verdict == "suspect" and found.numbers["black_frames"] == 1
    assert found.evidence.startswith("1 of ") and "end to end" not in found.evidence and found.remedy


def test_a_plain_white_frame_is_small_but_not_black(episodes):
    white = simplejpeg.encode_jpeg(BLACK + 255, quality=95)
    planted = with_frames(episodes, "primary", lambda frames: [white] * len(frames))
    assert judged(planted)["black_frames", "primary"].verdict == "ok"


def test_a_frozen_camera_is_a_fault_and_flagged_only_while_the_robot_moves(episodes):
    planted = with_frames(episodes, "primary", lambda frames: [frames[0]] * len(frames), every=4)
    found = judged(planted)["frozen_camera", "primary"]
    assert found.verdict == "fault" and found.numbers["frozen_episodes"] == 5
    assert measure(planted[0]).flags == ("frozen_camera",)
    still = [replace(e, state=np.repeat(e.state[:1], len(e), axis=0)) for e in planted]
    assert judged(still)["frozen_camera", "primary"].verdict == "ok"


def test_a_camera_at_half_the_rate_repeats_frames(episodes):
    planted = with_frames(episodes, "primary", lambda frames: [frames[t - t % 2] for t in range(len(frames))])
    found = judged(planted)["repeated_frames", "primary"]
    assert found.verdict == "suspect" and 0.4 < found.numbers["repeated"] / found.numbers["moving"] < 0.6


def test_one_stream_under_two_names_is_a_fault(episodes):
    planted = [replace(e, images={"primary": e.images["primary"], "secondary": e.images["primary"]}) for e in episodes]
    assert judged(planted)["same_camera", "primary+secondary"].verdict == "fault"


def test_a_small_frame_that_does_not_decode_is_left_to_the_decoder(episodes):
    black = bytearray(simplejpeg.encode_jpeg(BLACK, quality=95))
    black[200:-2] = b"\x55" * len(black[200:-2])
    planted = with_frames(episodes, "primary", lambda frames: [*frames[:-1], bytes(black)])
    assert judged(planted)["black_frames", "primary"].verdict == "ok"


def test_next_to_nothing_is_decoded(episodes, monkeypatch):
    decoded = []
    monkeypatch.setattr(camera_frames, "small_image", lambda frame: decoded.append(frame) or BLACK)
    for episode in episodes:
        camera_frames.measure(episode, moving_steps(episode))
    assert decoded == []
