import pytest
import torch

from oxe_pipeline.vla.heads.layout import actions_of, token_layout, values_of
from tests.vla.batches import make_batch


def test_tokens_are_laid_out_by_step_then_slot_for_each_sample():
    mask = torch.zeros(2, 32, dtype=torch.bool)
    mask[0, [6, 2]] = True
    mask[1, [0, 9, 31]] = True
    layout = token_layout(mask, chunk=2)
    assert layout.slot[0][layout.valid[0]].tolist() == [2, 6, 2, 6]
    assert layout.step[0][layout.valid[0]].tolist() == [0, 0, 1, 1]
    assert layout.slot[1].tolist() == [0, 9, 31, 0, 9, 31] and layout.valid[1].all()


def test_a_sample_without_any_action_slot_is_refused():
    with pytest.raises(ValueError, match="no action slot"):
        token_layout(torch.zeros(1, 32, dtype=torch.bool), chunk=1)


def test_values_of_tokens_go_back_to_where_they_came_from():
    batch = make_batch(slots=((0, 1, 6), (28, 29, 30, 31)), chunk=3)
    layout = token_layout(batch["action_mask"], 3)
    values = values_of(batch["action"], layout, layout.valid)
    assert values[1, :4].tolist() == batch["action"][1, 0, 28:].tolist() and (values[~layout.valid] == 0).all()
    assert torch.equal(actions_of(values, layout, layout.valid, chunk=3), batch["action"])
