"""Sums that any grouping leaves alike."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oxe_pipeline.quality.tally import Tally

contributions = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(-1000, 1000), st.lists(st.integers(-99, 99), min_size=3, max_size=3)),
    min_size=1,
)


def tallied(parts) -> dict:
    tally = Tally()
    for subject, count, values in parts:
        tally.add("audit", subject, {"count": count, "sums": np.array(values, np.float64)})
    return tally.to_dict()


@given(contributions, st.integers(0, 20))
def test_merging_two_parts_is_adding_all(parts, cut):
    first, second = Tally.from_dict(tallied(parts[:cut])), Tally.from_dict(tallied(parts[cut:]))
    first.merge(second)
    assert first.to_dict() == tallied(parts)
    expected = {subject: sum(count for name, count, _ in parts if name == subject) for subject in "ab"}
    assert {subject: sums["count"] for subject, sums in first.of("audit")} == {
        subject: count for subject, count in expected.items() if any(name == subject for name, *_ in parts)
    }


def test_merging_leaves_the_other_as_it_is():
    first, second = Tally(), Tally()
    second.add("audit", "a", {"sums": np.ones(2)})
    first.merge(second)
    first.merge(second)
    assert second.to_dict() == {"audit": {"a": {"sums": [1.0, 1.0]}}}
    assert first.to_dict() == {"audit": {"a": {"sums": [2.0, 2.0]}}}
