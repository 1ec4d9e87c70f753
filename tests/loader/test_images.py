"""Images of a batch: the right pixels in the right place, absent cameras, goals, and unreadable ones both ways."""

import io

import numpy as np
import pytest
from PIL import Image

from oxe_pipeline.episode import DataError
from oxe_pipeline.loader.loader import make_eval_loader, make_loader
from tests.loader.conftest import batch_hash, make_episodes, open_mixture
from tests.synthetic import write_stream


def stored(mixture, dataset: int, episode: int, step: int, camera: str) -> np.ndarray:
    data = mixture.datasets[dataset].stream.image(episode, step, camera)
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def every_place(batch):
    names = ("dataset", "episode", "step")
    return enumerate(zip(*(batch[name].tolist() for name in names), strict=True))


def test_each_image_is_the_one_of_its_step_and_padding_shows_the_first(mixture):
    with make_loader(mixture, batch_size=64, history=3) as loader:
        batch = next(loader)
    for i, (dataset, episode, step) in every_place(batch):
        for t in range(3):
            shown = max(step - 2 + t, 0)
            assert batch["image_primary_mask"][i, t] == (step - 2 + t >= 0)
            difference = batch["image_primary"][i, t].numpy() - stored(mixture, dataset, episode, shown, "primary")
            assert np.abs(difference).max() <= 2


def test_stored_images_reach_the_jpeg_decoder_as_unsigned_bytes(mixture):
    # Signed ones compare unequal to the JPEG mark, and would all go the slow way through Pillow unnoticed.
    assert mixture.datasets[0].stream.image(0, 0, "primary").format == "B"


def test_a_camera_that_the_episode_lacks_is_black_and_masked(mixture):
    with make_loader(mixture, batch_size=64) as loader:
        for _ in range(3):  # from the second on, memory of earlier batches is used again
            batch = next(loader)
    fast = [dataset.name for dataset in mixture.datasets].index("fast")
    has = batch["dataset"] != fast
    assert (batch["image_wrist_mask"][:, 0] == has).all() and 0 < has.sum() < 64
    assert (batch["image_wrist"][~has] == 0).all()
    assert (batch["image_wrist"][has].float().mean((1, 2, 3, 4)) > 10).all()


def test_camera_dropout_blanks_but_never_all_cameras_of_a_sample(mixture):
    with make_loader(mixture, batch_size=512, camera_dropout=0.5) as loader:
        batch = next(loader)
    two = (batch["dataset"] == [d.name for d in mixture.datasets].index("slow")).numpy()
    primary, wrist = (batch[f"image_{camera}_mask"][:, 0].numpy() for camera in ("primary", "wrist"))
    assert (primary | wrist).all() and primary[~two].all()
    assert 0.15 < (~primary[two]).mean() < 0.5 and 0.15 < (~wrist[two]).mean() < 0.5
    assert (batch["image_primary"][~primary] == 0).all()


def test_goals_are_later_steps_of_the_same_episode_drawn_evenly(mixture):
    with make_loader(mixture, batch_size=512, goal_images=True, cameras=["primary"]) as loader:
        batch = next(loader)
    place_in_rest = []
    for i, (dataset, episode, step) in every_place(batch):
        last = int(mixture.datasets[dataset].stream.episodes.length[episode]) - 1
        goal = int(batch["goal_step"][i])
        assert step < goal <= last or goal == step == last
        if i % 16 == 0:
            difference = batch["image_goal"][i].numpy() - stored(mixture, dataset, episode, goal, "primary")
            assert np.abs(difference).max() <= 2
        if last - step >= 10:
            place_in_rest.append((goal - step - 1) / (last - step - 1))
    assert 0.4 < np.mean(place_in_rest) < 0.6


def test_images_are_resized_when_asked(mixture):
    with make_loader(mixture, batch_size=4, image_size=(20, 24)) as loader:
        assert next(loader)["image_primary"].shape == (4, 1, 20, 24, 3)


def test_streams_of_different_stored_sizes_need_an_image_size(folders, tmp_path):
    large = write_stream(tmp_path / "large", make_episodes("large", [4, 3], image_px=48))
    mixed = open_mixture([folders[0], large])
    with pytest.raises(ValueError, match=r"48x48 in large.*32x32 in slow.*image_size"):
        make_loader(mixed, batch_size=4)
    with make_loader(mixed, batch_size=4, image_size=32) as loader:
        assert next(loader)["image_wrist"].shape == (4, 1, 32, 32, 3)


def test_a_stream_of_mixed_sizes_is_an_error_that_names_the_sample(tmp_path):
    episodes = make_episodes("mixed", [4, 4])
    episodes[1].images["wrist"] = make_episodes("mixed", [4, 4], image_px=48)[1].images["wrist"]
    mixture = open_mixture([write_stream(tmp_path / "mixed", episodes)])
    loader = make_loader(mixture, batch_size=8, on_corrupt="substitute")
    with pytest.raises(DataError, match=r"mixed: episode episode_1: camera wrist, step \d.*48x48.*image_size="):
        next(loader)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """Episode 0: step 3 truncated, first step gone; episode 1: nothing readable from the wrist camera."""
    episodes = make_episodes("damaged", [6, 4, 5])
    episodes[0].images["primary"][3] = episodes[0].images["primary"][3][:300]
    episodes[0].images["primary"][0] = b"no image"
    episodes[1].images["wrist"] = [b"\xff\xd8junk"] * 4
    folder = write_stream(tmp_path_factory.mktemp("damaged") / "damaged", episodes)
    return open_mixture([folder])


def test_an_unreadable_image_stops_with_data_set_episode_step_and_camera(damaged):
    loader = make_eval_loader(damaged, batch_size=6, split="train", cameras=["primary"], threads=2)
    with pytest.raises(DataError, match=r"damaged: episode episode_0: camera primary, step \d.*substitute"):
        list(loader)


def test_a_loader_stays_usable_for_the_same_step_after_a_fault(damaged):
    loader = make_loader(damaged, batch_size=32, threads=2)
    for _ in range(2):
        with pytest.raises(DataError):
            next(loader)
    assert loader.state_dict()["step"] == 0


def test_a_substitute_is_the_step_before_else_the_next_after_and_is_reported(damaged):
    batch = next(iter(make_eval_loader(damaged, batch_size=100, split="train", on_corrupt="substitute")))
    for i, (_, episode, step) in every_place(batch):
        shown = {(0, 0): 1, (0, 3): 2}.get((episode, step), step)
        difference = batch["image_primary"][i, 0].numpy() - stored(damaged, 0, episode, shown, "primary")
        assert np.abs(difference).max() <= 2
        assert bool(batch["image_primary_mask"][i, 0])
        assert bool(batch["image_wrist_mask"][i, 0]) == (episode != 1)
        if episode == 1:
            assert (batch["image_wrist"][i] == 0).all()


def test_substitutions_are_counted_and_the_same_on_every_layout(damaged):
    found = []
    for threads, prefetch in ((1, 1), (3, 4)):
        with make_loader(damaged, batch_size=30, threads=threads, prefetch=prefetch, on_corrupt="substitute") as loader:
            digest = [batch_hash(next(loader)) for _ in range(2)]
        found.append((digest, loader.num_substituted, loader.substitutions))
    assert found[0] == found[1]
    _, count, report = found[0]
    assert count == sum(report.values()) > 0
    reported = {(s.source_path, s.step, s.camera, s.shown_step) for s in report}
    assert reported == {
        ("episode_0", 0, "primary", 1),
        ("episode_0", 3, "primary", 2),
        *(("episode_1", step, "wrist", -1) for step in range(4)),
    }
