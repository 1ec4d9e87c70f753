"""Images that carry their own number, so that a decoded image says which frame it is, however lossy the codec."""

import numpy as np

BITS = 10


def numbered_image(number: int, height: int = 64, width: int = 80) -> np.ndarray:
    """uint8 [H, W, 3]: upper half BITS bars, white for a set bit of `number`; lower half red."""
    image = np.zeros((height, width, 3), np.uint8)
    bar = width // BITS
    for bit in range(BITS):
        image[: height // 2, bit * bar : (bit + 1) * bar] = 255 * (number >> bit & 1)
    image[height // 2 :, :, 0] = 255
    return image


def numbered_images(numbers) -> np.ndarray:
    """uint8 [T, 64, 80, 3]."""
    return np.stack([numbered_image(number) for number in numbers])


def number_of(image: np.ndarray) -> int:
    """Reads the bars. AssertionError unless the lower half is red, not blue, so that swapped channels are noticed."""
    height, width = image.shape[:2]
    red, _, blue = image[height * 3 // 4, width // 2].astype(int)
    assert red > 150 and blue < 100, (red, blue)
    bar = width // BITS
    return sum(int(image[height // 4, bit * bar + bar // 2, 1] > 127) << bit for bit in range(BITS))
