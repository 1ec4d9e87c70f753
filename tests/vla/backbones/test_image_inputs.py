"""Against the image processors of transformers and Pillow themselves.

Pillow sums in fixed point, so a level may fall to the other side of a half: rarely, and by little.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from oxe_pipeline.vla.backbones.hub import BackboneError
from oxe_pipeline.vla.backbones.image_inputs import ImageInputs, resize
from oxe_pipeline.vla.backbones.tiny import write_tiny

transformers = pytest.importorskip("transformers")

SIZES = [(48, 80), (90, 64), (56, 56), (33, 41), (112, 112)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    return {kind: write_tiny(kind, root / kind) for kind in ("paligemma", "smolvlm", "llava", "siglip", "dinov2")}


def random_images(size: tuple[int, int], *, count: int = 2) -> np.ndarray:
    """Noise over a coarse pattern, so that both edges and clipping occur."""
    generator = np.random.default_rng(sum(size))
    coarse = generator.integers(0, 256, (count, 4, 4, 3)).repeat(32, 1).repeat(32, 2)[:, : size[0], : size[1]]
    return (coarse + generator.integers(-60, 60, coarse.shape)).clip(0, 255).astype(np.uint8)


def assert_pixels_agree(ours: torch.Tensor, theirs: np.ndarray, inputs: ImageInputs, *, levels: int = 1) -> None:
    one_level = inputs.scale / min(inputs.deviation)
    assert ours.dtype == torch.float32
    difference = np.abs(ours.numpy() - theirs)
    assert difference.max() <= levels * one_level * 1.01
    assert (difference > 1e-5).mean() < 0.001 or levels > 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["paligemma", "siglip"])
def test_squares_are_those_of_the_siglip_processor(folders, kind, size):
    inputs, images = ImageInputs(folders[kind]), random_images(size)
    theirs = transformers.AutoImageProcessor.from_pretrained(folders[kind], backend="pil")
    assert inputs.image_size == 56
    assert_pixels_agree(
        inputs(torch.from_numpy(images)), theirs(list(images), return_tensors="np")["pixel_values"], inputs
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["llava", "dinov2"])
def test_with_crop_they_are_those_of_the_clip_and_bit_processors(folders, kind, size):
    inputs, images = ImageInputs(folders[kind], aspect="crop"), random_images(size)
    theirs = transformers.AutoImageProcessor.from_pretrained(folders[kind], backend="pil")
    expected = theirs(list(images), return_tensors="np")["pixel_values"]
    assert expected.shape == (2, 3, 56, 56)
    assert_pixels_agree(inputs(torch.from_numpy(images)), expected, inputs)


@pytest.mark.parametrize("kind", ["llava", "dinov2"])
def test_without_crop_the_whole_image_is_stretched(folders, kind):
    inputs, images = ImageInputs(folders[kind]), random_images((48, 80))
    theirs = transformers.AutoImageProcessor.from_pretrained(folders[kind], backend="pil")
    expected = theirs(list(images), size={"height": 56, "width": 56}, do_center_crop=False, return_tensors="np")[
        "pixel_values"
    ]
    assert_pixels_agree(inputs(torch.from_numpy(images)), expected, inputs)


@pytest.mark.parametrize("size", [(80, 112), (100, 60), (128, 128)])
def test_smolvlm_s_square_is_its_global_image(folders, size):
    # The processor enlarges to 448 px, rounds and clips there, and reduces then; ours rounds and clips once.
    inputs, images = ImageInputs(folders["smolvlm"]), random_images(size)
    theirs = transformers.AutoImageProcessor.from_pretrained(folders["smolvlm"], backend="pil")
    for shown, levels in ((images, 40), (images // 2 + 64, 2)):
        expected = theirs([list(shown)], do_image_splitting=False, return_tensors="np")["pixel_values"][0]
        ours = inputs(torch.from_numpy(shown))
        assert ours.shape[-1] == inputs.image_size == 112
        assert_pixels_agree(ours, expected, inputs, levels=levels)
        assert np.abs(ours.numpy() - expected).mean() * 127.5 < 1


@settings(max_examples=30)
@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.sampled_from([1, 2, 3]),
)
def test_every_filter_resizes_as_pillow_does(from_size, to_size, pillow_filter):
    image = np.random.default_rng(7).integers(0, 256, (*from_size, 3), np.uint8)
    theirs = np.array(Image.fromarray(image).resize(to_size[::-1], pillow_filter))
    ours = resize(torch.from_numpy(image).permute(2, 0, 1)[None], to_size, pillow_filter)[0].permute(1, 2, 0).numpy()
    assert np.abs(ours - theirs).max() <= 2


def test_another_size_can_be_asked_for(folders):
    inputs = ImageInputs(folders["dinov2"], image_size=112)
    assert inputs.image_size == 112
    assert inputs(torch.zeros(1, 20, 30, 3, dtype=torch.uint8)).shape == (1, 3, 112, 112)


def test_precision_of_the_model_around_them_changes_nothing(folders):
    inputs, images = ImageInputs(folders["siglip"]), torch.from_numpy(random_images((48, 80)))
    expected = inputs(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(inputs.to(torch.bfloat16)(images), expected)


def test_saved_settings_make_the_same_inputs(folders, tmp_path):
    images = torch.from_numpy(random_images((48, 80)))
    for kind, folder in folders.items():
        saved = tmp_path / kind
        saved.mkdir()
        (saved / "config.json").write_text((folder / "config.json").read_text())
        inputs = ImageInputs(folder)
        inputs.save(saved)
        assert torch.equal(ImageInputs("a/name-nobody-asks-for", saved)(images), inputs(images))


def test_models_without_usable_image_settings_are_refused(tmp_path):
    folder = write_tiny("llama", tmp_path / "llama")
    with pytest.raises(BackboneError, match=r"no usable preprocessor_config\.json"):
        ImageInputs(folder)
    transformers.ViTImageProcessorPil(size={"height": 20, "width": 30}).save_pretrained(folder)
    with pytest.raises(BackboneError, match=r"ViTImageProcessor: size .* is no square"):
        ImageInputs(folder)
