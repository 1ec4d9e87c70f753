"""Whole batches against a slow reference, image by image, and what a batch promises to torch.compile."""

import io
from itertools import pairwise

import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image

from oxe_pipeline.loader.batch import BatchAssembler, PendingBatch
from oxe_pipeline.loader.buffers import BufferPool
from oxe_pipeline.loader.loader import make_loader
from oxe_pipeline.loader.options import BatchOptions
from oxe_pipeline.loader.window import Samples
from tests.loader.conftest import batch_hash, make_episodes, open_mixture
from tests.synthetic import write_stream

SEED = 7


def encode(image: Image.Image, kind: str, **options) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def odd_forms(image: Image.Image, number: int) -> bytes:
    """The image as what robot data sets hold beside plain JPEG: header, colours or format differ from step to step."""
    forms = (
        lambda: encode(image, "JPEG", quality=95),
        lambda: encode(image, "PNG"),
        lambda: encode(image.convert("L"), "JPEG"),
        lambda: encode(image.convert("CMYK"), "JPEG"),
        lambda: encode(image, "JPEG", progressive=True, quality=80),
        lambda: encode(image, "JPEG", subsampling=0, comment=b"step %d" % number),
    )
    return forms[number % len(forms)]()


@pytest.fixture(scope="module")
def odd_mixture(folders, tmp_path_factory):
    """`folders` and a stream whose images are of every odd kind."""
    episodes = make_episodes("odd", [8, 6, 5, 7])
    for number, episode in enumerate(episodes):
        for images in episode.images.values():
            for step, data in enumerate(images):
                images[step] = odd_forms(Image.open(io.BytesIO(data)).convert("RGB"), number + step)
    return open_mixture([*folders, write_stream(tmp_path_factory.mktemp("odd") / "odd", episodes)])


def shuffled_samples(mixture, size: int) -> Samples:
    places = [
        (d, episode, step)
        for d, dataset in enumerate(mixture.datasets)
        for episode in range(len(dataset.stream.episodes))
        for step in range(int(dataset.stream.episodes.length[episode]))
    ]
    chosen = np.random.default_rng(1).permutation(np.array(places, np.int64))[:size]
    return Samples(np.arange(size), *(np.ascontiguousarray(column) for column in chosen.T))


def assembler_of(mixture, **options) -> BatchAssembler:
    return BatchAssembler(mixture.datasets, BatchOptions(**options), seed=SEED, buffers=BufferPool(keep=2))


def begun(assembler: BatchAssembler, samples: Samples) -> PendingBatch:
    (plan,) = assembler.plan([samples])
    return PendingBatch(assembler, plan)


def reference_image(data: memoryview, image_size: int | None) -> np.ndarray:
    """JPEG by simplejpeg and the rest by Pillow, each into memory of its own; resized by torch's public function."""
    try:
        direct = simplejpeg.decode_jpeg_header(data)[2] != "CMYK"
    except ValueError:
        direct = False
    pixels = simplejpeg.decode_jpeg(data, "RGB") if direct else np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    if image_size in (None, len(pixels)):
        return pixels
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
    size = (image_size, image_size)
    return torch.nn.functional.interpolate(planes, size, mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"history": 3, "goal_images": True},
        {"history": 2, "camera_dropout": 0.5, "goal_images": True},
        {"history": 2, "image_size": 28},
        {"image_size": 48},
    ],
    ids=str,
)
def test_every_image_of_a_batch_is_bit_identical_to_a_slow_reference(odd_mixture, options):
    samples = shuffled_samples(odd_mixture, 60)
    batch = assembler_of(odd_mixture, **options).assemble(samples)
    history, image_size = options.get("history", 1), options.get("image_size")
    for i in range(len(samples)):
        stream = odd_mixture.datasets[samples.dataset[i]].stream
        episode, step = int(samples.episode[i]), int(samples.step[i])
        shown = [
            (f"image_{camera}", t, max(0, step - history + 1 + t))
            for camera in ("primary", "wrist")
            for t in range(history)
        ]
        for name, t, at in shown:
            pixels = batch[name][i, t].numpy()
            if not batch[f"{name}_mask"][i, -1]:
                assert not pixels.any()
                continue
            expected = reference_image(stream.image(episode, at, name.removeprefix("image_")), image_size)
            np.testing.assert_array_equal(pixels, expected, err_msg=f"{name}[{i}, {t}]")
            assert batch[f"{name}_mask"][i, t] == (step - history + 1 + t >= 0)
        if "goal_images" in options:
            expected = reference_image(stream.image(episode, int(batch["goal_step"][i]), "primary"), image_size)
            np.testing.assert_array_equal(batch["image_goal"][i].numpy(), expected)


def test_an_image_that_several_places_show_is_decoded_once(mixture):
    d = [dataset.name for dataset in mixture.datasets].index("fast")
    steps = np.arange(10)
    in_order = Samples(steps, np.full(10, d), np.zeros(10, np.int64), steps)
    # Step 0 is shown by its own sample, by the padding before it and by the history of step 1, and so on.
    pending = begun(assembler_of(mixture, history=3, cameras=["primary"]), in_order)
    assert pending.num_images == 10
    pending.decode(0, 10)
    images = pending.finish()["image_primary"]
    for step in range(1, 10):
        assert torch.equal(images[step, 1], images[step - 1, 2])


def test_the_work_on_images_may_be_shared_out_in_any_pieces(odd_mixture):
    options = {"history": 2, "goal_images": True, "image_size": 28, "camera_dropout": 0.3}
    found = set()
    for pieces in ([0, 1, 2, 40], [0, 17, 23], [0]):
        pending = begun(assembler_of(odd_mixture, **options), shuffled_samples(odd_mixture, 40))
        edges = [*pieces, pending.num_images]
        for start, stop in reversed(list(pairwise(edges))):
            pending.decode(start, stop)
        found.add(batch_hash(pending.finish()))
    assert len(found) == 1


def test_fast_decoding_is_near_exact_decoding_and_not_the_same(tmp_path):
    from benchmarks.scenes import make_scene_stream

    mixture = open_mixture([make_scene_stream(tmp_path / "s", "s", episodes=2, steps=4, image_px=224, seed=0)])
    samples = shuffled_samples(mixture, 8)
    exact, fast = (
        assembler_of(mixture, decode=way).assemble(samples)["image_primary"].int() for way in ("exact", "fast")
    )
    difference = (exact - fast).abs()
    assert 0 < difference.float().mean() < 4
    with pytest.raises(ValueError, match="decode must be one of exact, fast, is 'quick'"):
        BatchOptions(decode="quick")


def test_a_compiled_function_of_a_whole_batch_is_compiled_once(mixture):
    from torch._dynamo.testing import CompileCounter

    def total(batch: dict) -> torch.Tensor:
        sums = [value.sum(dtype=torch.float64) for value in batch.values() if isinstance(value, torch.Tensor)]
        return torch.stack(sums)

    counter = CompileCounter()
    compiled = torch.compile(total, backend=counter, fullgraph=True)
    strides: set[tuple] = set()
    with make_loader(mixture, batch_size=8, chunk=3, history=2, goal_images=True, seed=SEED) as loader:
        for _ in range(6):
            batch = next(loader)
            torch.testing.assert_close(compiled(batch), total(batch))
            tensors = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
            assert all(value.is_contiguous() for value in tensors.values())
            strides.add(tuple((name, v.shape, v.stride(), v.dtype) for name, v in tensors.items()))
    assert len(strides) == 1
    assert counter.frame_count == 1
