import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.vla.backbones.attention_rules import (
    BEFORE_ALL_STEPS,
    OCTO_RULES,
    TokenGroup,
    attention_mask,
    visible_tokens,
)

GROUPS = st.lists(
    st.one_of(
        st.builds(
            TokenGroup,
            name=st.sampled_from(["task_language", "task_goal"]),
            step=st.just(BEFORE_ALL_STEPS),
            num_tokens=st.integers(0, 3),
        ),
        st.builds(
            TokenGroup,
            name=st.sampled_from(["obs_primary", "obs_wrist", "readout_action", "readout_value"]),
            step=st.integers(0, 3),
            num_tokens=st.integers(0, 3),
        ),
    ),
    min_size=1,
    max_size=8,
)


def published(reader: TokenGroup, read: TokenGroup) -> bool:
    """Octo's rules in words: tasks see tasks; observations see tasks and observations up to their step; readouts see
    what observations see, and readouts of their own name up to their step."""
    if read.name.startswith("task"):
        return True
    if reader.name.startswith("task") or read.step > reader.step:
        return False
    return read.name.startswith("obs") or read.name == reader.name


@given(GROUPS)
def test_the_mask_is_that_of_the_published_rules_token_by_token(groups):
    tokens = [group for group in groups for _ in range(group.num_tokens)]
    mask = attention_mask(groups, OCTO_RULES)
    assert mask.dtype == torch.bool and mask.shape == (len(tokens), len(tokens))
    for row, reader in enumerate(tokens):
        for column, read in enumerate(tokens):
            assert mask[row, column] == published(reader, read), (reader, read)


@given(GROUPS)
def test_whatever_is_read_reads_nothing_that_its_reader_may_not_read(groups):
    """So no knowledge of a later step, or of a readout, reaches a token through another one."""
    mask = attention_mask(groups, OCTO_RULES).long()
    assert not ((mask @ mask > 0) & (mask == 0)).any()


def test_what_is_not_real_is_seen_by_nobody_but_itself():
    groups = [TokenGroup("task_language", BEFORE_ALL_STEPS, 1), TokenGroup("obs_a", 0, 2)]
    real = torch.tensor([[True, True, False], [False, True, True]])
    assert visible_tokens(groups, OCTO_RULES, real).long().tolist() == [
        [[1, 0, 0], [1, 1, 0], [1, 1, 1]],
        [[1, 0, 0], [0, 1, 1], [0, 1, 1]],
    ]


def test_the_first_rule_that_fits_a_reader_counts():
    groups = [TokenGroup("obs_a", 0, 1), TokenGroup("obs_b", 0, 1)]
    mask = attention_mask(groups, {"obs_a": ("obs_a",), "obs_*": ("obs_*",)})
    assert mask.tolist() == [[True, False], [True, True]]


def test_tokens_that_no_rule_is_about_are_refused():
    with pytest.raises(ValueError, match="no attention rule for tokens 'memory'"):
        attention_mask([TokenGroup("memory", 0, 1)], OCTO_RULES)
