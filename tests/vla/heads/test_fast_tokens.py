import math
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from oxe_pipeline.loader.loader import make_loader
from oxe_pipeline.mixture.config import DatasetEntry, MixtureConfig
from oxe_pipeline.mixture.mixture import load_mixture
from oxe_pipeline.vla.context import Context
from oxe_pipeline.vla.fast_codec import FastCodec, dct_matrix, fit_codec
from oxe_pipeline.vla.heads.fast_tokens import FastTokensConfig, FastTokensHead
from oxe_pipeline.vla.model import VLA, ModelConfig
from oxe_pipeline.vla.text import ByteVocabulary
from tests.vla.batches import make_batch
from tests.vla.heads.fitting import SMALL_NANO, fit_one_batch
from tests.vla.reaching import reaching_stream
from tests.vla.smooth_chunks import smooth_chunks

MIXED = ((0, 1, 6), (0, 1, 2, 3, 4, 5, 6), (28, 29, 30))
CHUNK = 4
TEXT_IDS = ByteVocabulary.size


@cache
def codec() -> FastCodec:
    return fit_codec(smooth_chunks(300, chunk=CHUNK), vocabulary=256)


def made(**changes) -> VLA:
    torch.manual_seed(0)
    config = FastTokensConfig(**{"vocabulary": 256, "codec": codec().to_json(), **changes})
    return VLA(ModelConfig(backbone=SMALL_NANO, head=config, chunk=CHUNK)).eval()


def smooth_batch(**options) -> dict:
    """`make_batch` with actions that compress, differently well."""
    batch = make_batch(chunk=CHUNK, slots=MIXED, **options)
    for row, chunk in enumerate(smooth_chunks(len(batch["g"]), chunk=CHUNK, slots=32, seed=3)):
        batch["action"][row] = torch.tensor(chunk, dtype=torch.float32) * batch["action_mask"][row]
    return batch


def own(batch: dict, row: int) -> np.ndarray:
    """The sample's actions in the slots it has, [chunk, D]."""
    return batch["action"][row][:, batch["action_mask"][row]].numpy()


@pytest.fixture(scope="module", params=[True, False], ids=["with places", "plain"])
def model(request) -> VLA:
    return made(place_embeddings=request.param)


def test_the_loss_is_the_mean_over_a_sample_s_own_tokens_of_a_newline_and_the_ids_before():
    model, batch = made(place_embeddings=False), smooth_batch()
    found = model(batch).loss_B
    lengths = set()
    for row in range(4):
        ids = torch.tensor(codec().encode(own(batch, row))) + TEXT_IDS
        lengths.add(len(ids))
        alone = {name: value[row : row + 1] for name, value in batch.items()}
        with torch.no_grad():
            before = model.backbone.tokens(torch.tensor([[ord("\n"), *ids[:-1]]]))
            exists = torch.ones(1, len(ids), dtype=torch.bool)
            logits = model.backbone.logits(model.backbone.encode_decode(alone, before, exists, causal=True))[0]
        assert found[row].item() == pytest.approx(F.cross_entropy(logits, ids).item(), rel=1e-4)
    assert len(lengths) > 1, "samples differ in how many tokens they take"


def test_a_sample_is_treated_the_same_alone_and_beside_other_robots(model):
    batch = smooth_batch()
    together, predicted = model(batch), model.predict(batch)
    for row in range(4):
        alone = {name: value[row : row + 1] for name, value in batch.items()}
        torch.testing.assert_close(together.loss_B[row : row + 1], model(alone).loss_B, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(predicted[row : row + 1], model.predict(alone))


def test_values_in_masked_slots_change_nothing(model):
    batch = smooth_batch()
    noise = torch.where(batch["action_mask"][:, None], batch["action"], torch.tensor(0.7))
    assert torch.equal(model(batch).loss_B, model({**batch, "action": noise}).loss_B)


def test_decoding_with_the_cache_agrees_with_one_pass_over_the_decoded_tokens():
    """With single coefficients alone: what pairs say can be said in several ways, of which the codec chooses one."""
    single = FastCodec(scale=10.0, limit=25, merges=()).to_json()
    for places in (True, False):
        model, batch = made(codec=single, place_embeddings=places), make_batch(chunk=CHUNK, slots=MIXED)
        with torch.no_grad():
            output = model({**batch, "action": model.predict(batch)})
        assert output.metrics["token_accuracy"].tolist() == [1.0] * 4


class AnyLogits:
    """A backbone that says what it is told, and counts how often it is asked."""

    width, vocabulary, reads_prompts = 2, ByteVocabulary(), False

    def __init__(self, seed: int, scale: float, infinite: float):
        self.vocabulary_size = TEXT_IDS + 256
        self.tokens = torch.nn.Embedding(self.vocabulary_size, self.width)
        self.generator = torch.Generator().manual_seed(seed)
        self.scale, self.infinite, self.passes = scale, infinite, 0

    def encode(self, batch: dict) -> Context:
        return Context((), (), torch.ones(len(batch["g"]), 1, dtype=torch.bool))

    def decode(self, embedding_BSD, mask_BS, context, *, causal):
        self.passes += 1
        return embedding_BSD, context

    def logits(self, hidden_BSD):
        shape = (*hidden_BSD.shape[:2], self.vocabulary_size + 5)
        logits = self.scale * torch.randn(shape, generator=self.generator)
        chance = torch.rand(shape, generator=self.generator)
        return logits.masked_fill(chance < self.infinite, -torch.inf).masked_fill(
            chance > 1.2 - self.infinite, torch.inf
        )


@given(seed=st.integers(0, 2**31), scale=st.sampled_from([0.0, 1.0, 1e30]), infinite=st.floats(0, 1.2))
@settings(max_examples=30, deadline=None)
def test_any_logits_give_a_chunk_of_whole_coefficients_in_the_slots_a_sample_has(seed, scale, infinite):
    backbone, batch = AnyLogits(seed, scale, infinite), make_batch(chunk=CHUNK, slots=MIXED)
    head = FastTokensHead(FastTokensConfig(vocabulary=256, codec=codec().to_json()), backbone=backbone, chunk=CHUNK)
    predicted = head.predict(backbone, batch)
    has = batch["action_mask"][:, None].expand_as(predicted)
    assert predicted.shape == (4, CHUNK, 32) and predicted.isfinite().all() and (predicted[~has] == 0).all()
    spectrum = dct_matrix(CHUNK) @ predicted.double().numpy() * codec().scale
    np.testing.assert_allclose(spectrum, spectrum.round(), atol=1e-4)
    assert np.abs(spectrum).max() <= codec().limit + 1e-4
    assert backbone.passes <= CHUNK * 7


def test_logits_that_are_not_numbers_stop_the_policy_instead_of_moving_the_robot():
    model = made()
    with torch.no_grad():
        model.backbone.tokens.weight[:] = torch.nan
    with pytest.raises(ValueError, match="logits are NaN"):
        model.predict(make_batch(chunk=CHUNK))


def test_a_few_steps_on_one_batch_drive_its_loss_near_zero_and_its_predictions_to_the_targets():
    model, batch = made(), smooth_batch()
    assert fit_one_batch(model, batch, steps=110) < 0.05
    assert model(batch).metrics["token_accuracy"].tolist() == [1.0] * 4
    error = (model.predict(batch) - batch["action"])[batch["action_mask"][:, None].expand_as(batch["action"])]
    assert error.abs().max() <= math.sqrt(CHUNK) / 2 / codec().scale + 1e-5


def mixture_of(folder):
    reaching_stream(folder / "reach", episodes=6, steps=9)
    return load_mixture(MixtureConfig(datasets=[DatasetEntry(name="reach", path=str(folder / "reach"), weight=1.0)]))


def test_preparing_fits_the_codec_to_the_chunks_that_training_sees(tmp_path):
    mixture = mixture_of(tmp_path)
    config = FastTokensConfig(vocabulary=200, scale=8.0).prepared(mixture, chunk=CHUNK, history=2)
    found = FastCodec.from_json(config.codec)
    assert found.scale == 8.0 and 2 * found.limit + 1 < found.size <= 200
    assert FastTokensConfig(vocabulary=200, scale=8.0).prepared(mixture, chunk=CHUNK, image_size=64) == config
    assert config.prepared(mixture, chunk=9) is config, "what is fitted stays"
    batch = next(make_loader(mixture, batch_size=32, chunk=CHUNK, cameras=()))
    tokens = [len(found.encode(own(batch, row))) for row in range(32)]
    assert np.mean(tokens) < 0.5 * CHUNK * 4
    assert VLA(ModelConfig(backbone=SMALL_NANO, head=config, chunk=CHUNK)).head.codec == found


def test_what_does_not_hold_is_refused():
    backbone = SimpleNamespace(width=2, vocabulary=ByteVocabulary(), vocabulary_size=TEXT_IDS + 1024)
    with pytest.raises(ValueError, match=r"no codec; FastTokensConfig\.prepared"):
        FastTokensHead(FastTokensConfig(), backbone=backbone, chunk=CHUNK)
    with pytest.raises(ValueError, match=f"{codec().size} ids, more than vocabulary 100"):
        FastTokensConfig(vocabulary=100, codec=codec().to_json())
    with pytest.raises(ValueError, match="vocabulary"):
        FastTokensConfig(vocabulary=1)
    with pytest.raises(ValueError, match="scale"):
        FastTokensConfig(scale=0)
