import numpy as np
import torch

from oxe_pipeline.vla.backbones.camera_tokens import CameraTokens
from oxe_pipeline.vla.backbones.small_stem import SmallStem, StandardisedConv


def test_a_convolution_uses_weights_of_mean_0_and_deviation_1_per_output_channel():
    torch.manual_seed(0)
    layer = StandardisedConv(3, 5, 3, stride=2, padding=1)
    kernel = layer.weight.detach().numpy().reshape(5, -1)
    standardised = (kernel - kernel.mean(1, keepdims=True)) / (kernel.std(1, keepdims=True) + 1e-5)
    image = torch.randn(1, 3, 8, 8)
    patch = np.pad(image[0].numpy(), ((0, 0), (1, 1), (1, 1)))[:, 2:5, 4:7].reshape(-1)
    np.testing.assert_allclose(
        layer(image)[0, :, 1, 2].detach().numpy(), standardised @ patch + layer.bias.detach().numpy(), rtol=1e-4
    )


def test_the_published_stem_makes_256_tokens_of_256_pixels_and_64_of_128_row_by_row():
    torch.manual_seed(0)
    stem = SmallStem(channels=6, features=(32, 96, 192, 384), width=512)
    with torch.no_grad():
        assert stem(torch.zeros(1, 6, 128, 128)).shape == (1, 64, 512)
        tokens = stem(torch.zeros(1, 6, 256, 256))
        image = torch.zeros(1, 6, 256, 256)
        image[:, :, 64:96, 144:176] = 3.0
        change = (stem(image) - tokens).norm(dim=-1)[0]
    assert tokens.shape == (1, 256, 512)
    row, column = divmod(int(change.argmax()), 16)
    assert 3 <= row <= 6 and 8 <= column <= 11, "the change lies in rows 4 and 5, columns 9 and 10"
    assert [layer.num_groups for layer in stem.layers if isinstance(layer, torch.nn.GroupNorm)] == [32] * 4


def test_a_goal_stands_beside_every_step_and_only_where_it_is_given():
    torch.manual_seed(0)
    tokens = CameraTokens(
        side=32, takes_goal=True, stem_features=(4, 4, 8, 8), stem_width=8, width=8, max_history=3
    ).eval()
    images = torch.randint(0, 256, (2, 2, 32, 32, 3), dtype=torch.uint8)
    goal = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    given = torch.tensor([True, False])
    with torch.no_grad():
        with_goal, without = tokens(images, goal, given), tokens(images, None, given)
    assert with_goal.shape == (2, 2, 4, 8)
    assert (with_goal[0] != without[0]).any((1, 2)).all()
    torch.testing.assert_close(with_goal[1], without[1])
    black = torch.zeros_like(goal)
    with torch.no_grad():
        torch.testing.assert_close(tokens(images, black, given), without), "as published: no goal is a black one"
