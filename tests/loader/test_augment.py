"""Augmentation: a function of (seed, g, camera) alone, neutral at neutral strengths, and doing what it says."""

import colorsys

import numpy as np
import pytest
import torch

from oxe_pipeline.loader import augment_opencv, augment_torch
from oxe_pipeline.loader.augment import AugmentOptions, augment, augment_images, centre_crop, draw_parameters
from oxe_pipeline.loader.loader import make_loader

NEUTRAL = {"crop_area": (1.0, 1.0), "brightness": 0.0, "contrast": (1.0, 1.0), "saturation": (1.0, 1.0), "hue": 0.0}


@pytest.fixture
def images() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(60, 190, (4, 2, 16, 20, 3)).astype(np.uint8))


def apply(images: torch.Tensor, seed: int = 0, **options) -> np.ndarray:
    parameters = draw_parameters(seed, np.arange(len(images)), "primary", AugmentOptions(**{**NEUTRAL, **options}))
    return augment_images(images, parameters).numpy()


def test_neutral_strengths_leave_every_pixel(images):
    assert np.abs(apply(images).astype(int) - images.numpy()).max() <= 1


def test_a_sample_is_augmented_alike_in_any_batch_and_each_sample_differently(mixture):
    with make_loader(mixture, batch_size=8, history=2, goal_images=True) as loader:
        whole = next(loader)
    part = {name: value[3:6] for name, value in whole.items()}
    a, b = augment(whole, seed=5), augment(part, seed=5)
    for name in ("image_primary", "image_wrist", "image_goal"):
        assert torch.equal(a[name][3:6], b[name]) and a[name].dtype == torch.uint8
        assert not torch.equal(a[name], whole[name]) and a[name].shape == whole[name].shape
    assert not torch.equal(a["image_primary"], augment(whole, seed=6)["image_primary"])
    assert torch.equal(a["image_primary_mask"], whole["image_primary_mask"]) and torch.equal(
        a["action"], whole["action"]
    )
    crops = draw_parameters(5, np.arange(1000), "primary", AugmentOptions()).crop
    assert len(np.unique(crops[:, 1])) > 990
    assert not np.array_equal(crops, draw_parameters(5, np.arange(1000), "wrist", AugmentOptions()).crop)


def test_frames_of_one_sample_share_their_parameters(images):
    same = images[:, :1].expand(-1, 2, -1, -1, -1)
    out = apply(same, crop_area=(0.5, 0.9), brightness=0.2, hue=0.1)
    assert np.array_equal(out[:, 0], out[:, 1])


def test_a_crop_shows_the_part_it_says():
    ramp = torch.arange(100, dtype=torch.float32).expand(100, 100)
    images = (torch.stack([ramp, ramp.T, ramp * 0], -1) * 2).to(torch.uint8)[None, None].expand(20, 1, -1, -1, -1)
    options = AugmentOptions(**{**NEUTRAL, "crop_area": (0.25, 0.25)})
    parameters = draw_parameters(3, np.arange(20), "primary", options)
    out = augment_images(images, parameters).numpy() / 2
    for i, (side, left, top) in enumerate(parameters.crop):
        assert side == pytest.approx(0.5)
        assert out[i, 0, 50, 50, 0] == pytest.approx(100 * ((1 - side) * left + side / 2), abs=1.5)
        assert out[i, 0, 50, 50, 1] == pytest.approx(100 * ((1 - side) * top + side / 2), abs=1.5)
        assert np.ptp(out[i, 0, 50, :, 0]) == pytest.approx(50, abs=2)


def test_brightness_shifts_contrast_spreads_and_no_saturation_is_grey(images):
    pixels = images.numpy().astype(float)
    shift = apply(images, brightness=0.2).astype(float) - pixels
    assert all(np.ptp(shift[i]) <= 1.01 for i in range(4)) and np.abs(shift).max() <= 0.2 * 255 + 1
    assert len({round(value) for value in shift[:, 0, 0, 0, 0]}) > 1
    spread = apply(images, contrast=(1.2, 1.2)).astype(float)
    assert spread.std() == pytest.approx(1.2 * pixels.std(), rel=0.03)
    grey = apply(images, saturation=(0.0, 0.0)).astype(int)
    assert np.ptp(grey, axis=-1).max() <= 1


def test_hue_turns_colours_and_keeps_greys():
    orange = torch.tensor([180, 120, 60], dtype=torch.uint8).expand(64, 1, 2, 2, 3)
    grey = torch.full((64, 1, 2, 2, 3), 120, dtype=torch.uint8)
    hues = [colorsys.rgb_to_hsv(*(pixel / 255.0))[0] for pixel in apply(orange, hue=0.05)[:, 0, 0, 0]]
    original = colorsys.rgb_to_hsv(180 / 255, 120 / 255, 60 / 255)[0]
    assert np.ptp(hues) > 0.05 and np.abs(np.array(hues) - original).max() < 0.1
    assert np.abs(apply(grey, hue=0.05).astype(int) - 120).max() <= 1


def reference(image_HWC: np.ndarray, parameters, i: int) -> np.ndarray:
    """Crop and colour of one image without stretching, from the definition, in float64."""
    top, left, height, width = parameters.boxes(*image_HWC.shape[:2])[i]
    crop = image_HWC[top : top + height, left : left + width].astype(float)
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    bright = crop + 255 * parameters.brightness[i]
    spread = bright.mean() + (bright - bright.mean()) * parameters.contrast[i]
    y, p, q = np.moveaxis(spread @ to_yiq.T, -1, 0)
    saturation, hue = parameters.saturation[i], parameters.hue[i]
    turned = (
        y,
        saturation * (np.cos(hue) * p - np.sin(hue) * q),
        saturation * (np.sin(hue) * p + np.cos(hue) * q),
    )
    return (np.stack(turned, -1) @ np.linalg.inv(to_yiq).T).clip(0, 255)


@pytest.mark.parametrize("augment_pixels", [augment_opencv.augment_pixels, augment_torch.augment_pixels])
def test_crop_and_colour_are_as_defined_to_one_grey_level(augment_pixels):
    pytest.importorskip("cv2", reason="opencv-python-headless is not installed")
    pixels = np.random.default_rng(2).integers(0, 256, (12, 2, 32, 40, 3)).astype(np.uint8)
    options = AugmentOptions(
        crop_area=(0.5625, 0.5625), brightness=0.3, contrast=(0.5, 1.5), saturation=(0, 2), hue=0.5
    )
    parameters = draw_parameters(1, np.arange(12), "wrist", options)
    out = augment_pixels(torch.from_numpy(pixels), parameters, (24, 30)).numpy()
    assert out.shape == (12, 2, 24, 30, 3)
    for i in range(12):
        for t in range(2):
            assert np.abs(out[i, t] - reference(pixels[i, t], parameters, i)).max() <= 1.0


def test_opencv_and_torch_agree_exactly_without_stretching_and_to_one_grey_level_with_it():
    pytest.importorskip("cv2", reason="opencv-python-headless is not installed")
    pixels = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (16, 2, 60, 80, 3)).astype(np.uint8))
    parameters = draw_parameters(4, np.arange(16), "primary", AugmentOptions(crop_area=(0.25, 0.25)))
    for size, most in (((30, 40), 0), ((60, 80), 1), ((20, 30), 1)):
        ways = [way.augment_pixels(pixels, parameters, size).int() for way in (augment_opencv, augment_torch)]
        assert (ways[0] - ways[1]).abs().max() <= most


def test_a_goal_is_augmented_as_the_camera_that_it_is_of(mixture):
    with make_loader(mixture, batch_size=8, goal_images=True, cameras=["wrist", "primary"]) as loader:
        batch = next(loader)
    batch["image_goal"] = batch["image_wrist"][:, 0]
    out = augment(batch, seed=5)
    assert torch.equal(out["image_goal"], out["image_wrist"][:, 0])


def test_images_come_out_at_the_size_asked_for(mixture):
    with make_loader(mixture, batch_size=4, goal_images=True) as loader:
        batch = next(loader)
    out = augment(batch, seed=0, options=AugmentOptions(image_size=(20, 24)))
    assert out["image_primary"].shape == (4, 1, 20, 24, 3) and out["image_goal"].shape == (4, 20, 24, 3)
    with pytest.raises(ValueError, match="image_size"):
        AugmentOptions(image_size=0)


def test_a_model_acts_on_the_middle_of_images_at_the_scale_it_was_trained_on(mixture):
    with make_loader(mixture, batch_size=4, goal_images=True) as loader:
        batch = next(loader)
    height, width = batch["image_primary"].shape[2:4]
    options = AugmentOptions(crop_area=(0.1, 0.25), image_size=(height // 2, width // 2))
    out = centre_crop(batch, options=options)
    middle = np.s_[:, :, height // 4 : height // 4 + height // 2, width // 4 : width // 4 + width // 2]
    for camera in ("primary", "wrist"):
        assert torch.equal(out[f"image_{camera}"], batch[f"image_{camera}"][middle]), "cut to size, colours untouched"
    goal = batch["image_goal"][:, None][middle][:, 0]
    assert torch.equal(out["image_goal"], goal)
    assert out["instruction"] == batch["instruction"] and torch.equal(out["g"], batch["g"])
    for as_they_are in (None, AugmentOptions(crop_area=(0.8, 1.0))):
        assert centre_crop(batch, options=as_they_are) is batch


def test_wrong_strengths_are_refused():
    with pytest.raises(ValueError, match="crop_area"):
        AugmentOptions(crop_area=(0.9, 1.1))
    with pytest.raises(ValueError, match="contrast"):
        AugmentOptions(contrast=(1.2, 0.8))
    with pytest.raises(ValueError, match="hue"):
        AugmentOptions(hue=2.0)
