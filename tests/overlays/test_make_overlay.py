"""Rules on a real stream: what is left, step by step, and what each rule is said to have removed."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxe_pipeline.overlays.idle import IdleRule
from oxe_pipeline.overlays.make_overlay import OverlayRules, make_overlay
from oxe_pipeline.overlays.overlay import Overlay, OverlayError
from oxe_pipeline.stream.reader import open_stream
from tests.synthetic import make_episode, write_stream

SPEC = {
    "action": [
        {"slots": "arm0.eef_position_delta", "source": "a[0:3]", "kind": "delta", "unit": "m"},
        {"slots": "arm0.eef_rotation_delta", "source": "a[3:6]", "kind": "delta", "unit": "rad"},
        {"slots": "arm0.gripper", "source": "a[6]", "unit": "1"},
    ]
}
SUCCESS = [1, 0, -1, 1, 1, 0, 1, 1, -1]
INSTRUCTIONS = ["pick up the red cup", "", "öffne bitte die oberste Schublade des Schranks", *["open the drawer"] * 6]
LABEL_FLAGS = [("case",), (), ("language:de",), ("case", "mojibake"), *[()] * 5]
IDLE = {0: range(2, 8), 3: range(0, 5), 4: range(8, 11), 7: range(3, 4)}
"""Episode to its idle steps."""
WEIGHTS = {f"{3:016x}": Fraction(3, 2), f"{4:016x}": Fraction(0), f"{6:016x}": Fraction(1, 2)}


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    episodes = []
    for number, success in enumerate(SUCCESS):
        made = make_episode(number, dataset="alpha", steps=12 - number % 3, split="val" if number == 8 else "train")
        action = np.where(made.action_mask, 0.05, 0).astype(np.float32) * np.ones((len(made), 1), np.float32)
        action[:, 6] = 1
        action[list(IDLE.get(number, ())), :6] = 0
        flags = LABEL_FLAGS[number]
        episodes.append(
            replace(
                made,
                action=action,
                success=success,
                instruction=INSTRUCTIONS[number],
                alternatives=(),
                label_flags=flags,
                quality_flags=flags,
            )
        )
    return open_stream(write_stream(tmp_path_factory.mktemp("s") / "alpha", episodes, spec=SPEC))


def drawn(overlay: Overlay) -> dict[tuple[int, int], int]:
    """(episode, step) to how often it comes."""
    columns = (getattr(overlay.ranges, name).tolist() for name in ("episode", "first_step", "end_step", "repeats"))
    return {(e, s): times for e, first, end, times in zip(*columns, strict=True) for s in range(first, end)}


def kept(**rules) -> dict[str, set[int]]:
    """The episodes that each rule keeps, by the tables above."""
    every = set(range(len(SUCCESS)))
    sentences = {
        "success": {e for e in every if SUCCESS[e] == 1},
        "drop_failed": {e for e in every if SUCCESS[e] != 0},
        "require_instruction": every - {1},
        "languages": every - {2},
        "instruction": {e for e in every if "open" in INSTRUCTIONS[e]},
        "drop_label_flags": every - {3},
        "drop_quality_flags": every - {0, 3},
        "min_steps": {e for e in every if 12 - e % 3 >= 12},
        "keep_episodes": {0, 3, 4, 6},
        "drop_episodes": every - {6},
    }
    return {rule: sentences[rule] for rule in rules}


RULES = {
    "success": True,
    "drop_failed": True,
    "require_instruction": True,
    "languages": ("en",),
    "instruction": "OPEN",
    "drop_label_flags": ("mojibake", "never"),
    "drop_quality_flags": ("case",),
    "min_steps": 12,
    "keep_episodes": {"keep.txt": tuple(f"{e:016x}" for e in (0, 3, 4, 6))},
    "drop_episodes": {"drop.txt": (f"{6:016x}",)},
}


@given(st.sets(st.sampled_from(sorted(RULES)), min_size=0, max_size=4), st.booleans(), st.booleans())
@settings(max_examples=60)
def test_a_step_stays_when_all_rules_keep_it_and_weights_multiply(stream, names, weighted, idle):
    rules = {name: RULES[name] for name in names}
    if weighted:
        rules["weights"] = {"w.csv": WEIGHTS, "v.csv": {f"{3:016x}": Fraction(2)}}
    if idle:
        rules["idle"] = IdleRule(min_s=0.3)
    left = set(range(len(SUCCESS))).intersection(*kept(**{n: 1 for n in names}).values())
    weight = {e: Fraction(1) for e in range(len(SUCCESS))}
    if weighted:
        weight.update({3: Fraction(3), 4: Fraction(0), 6: Fraction(1, 2)})
    expected = {
        (e, s): weight[e]
        for e in sorted(left)
        for s in range(12 - e % 3)
        # Three idle steps at 10 Hz are 0.3 s; the stretch of one step is too short to go.
        if weight[e] and not (idle and e in (0, 3, 4) and s in IDLE[e])
    }
    if not expected:
        with pytest.raises(OverlayError, match=r"leaves nothing to draw"):
            make_overlay(stream, "x", OverlayRules(**rules))
        return
    overlay = make_overlay(stream, "x", OverlayRules(**rules))
    found = drawn(overlay)
    assert found.keys() == expected.keys()
    scale = Fraction(next(iter(found.values()))) / next(iter(expected.values()))
    assert all(found[step] == scale * expected[step] for step in expected)
    assert sum(overlay.header.windows.values()) == sum(found.values())
    assert sum(overlay.header.steps_left.values()) == len(found)
    train = [step for step in found if step[0] != 8]
    assert overlay.header.steps_left.get("train", 0) == len(train)


def test_each_rule_says_what_it_removed_beyond_those_before_it(stream):
    rules = OverlayRules(drop_failed=True, drop_label_flags=("mojibake", "never"), idle=IdleRule(min_s=0.3))
    header = make_overlay(stream, "x", rules).header
    failed, flagged, idle = header.rules
    total = sum(12 - e % 3 for e in range(9))
    assert (header.episodes, header.steps) == (9, total)
    assert (failed.episodes_removed, failed.steps_removed, failed.steps_left) == (2, 11 + 10, total - 21)
    assert flagged.parameters == {"drop": {"mojibake": 1, "never": 0}}
    assert (flagged.rule, flagged.steps_removed) == ("label_flags", 12)
    assert (idle.episodes_removed, idle.steps_removed) == (0, 6 + 3)
    assert idle.steps_left == sum(header.steps_left.values()) == total - 21 - 12 - 9


def test_without_an_idle_rule_no_shard_is_opened(stream):
    fresh = open_stream(stream.path)
    make_overlay(fresh, "x", OverlayRules(success=True, weights={"w": WEIGHTS}))
    assert not fresh._shards


def test_progress_is_told_shard_by_shard(stream):
    seen = []

    def track(items, what, total):
        for item in items:
            seen.append((what, total))
            yield item

    make_overlay(stream, "x", OverlayRules(idle=IdleRule()), track=track)
    assert seen == [("idle steps", len(stream.manifest.shards))] * len(stream.manifest.shards)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"languages": ("english",)}, "language 'english' is not among those told apart: ar, cs"),
        ({"instruction": "("}, r"'\(' is not a regular expression"),
        ({"min_steps": 99}, "alpha: rule min_steps removes the last 99 steps and leaves nothing"),
        ({"idle": IdleRule(m_per_s=9, rad_per_s=9)}, "rule idle removes the last 99 steps"),
        ({"drop_episodes": {"d.txt": ("none",)}}, "d.txt: 1 of 1 episode ids are not in the stream"),
    ],
)
def test_rules_that_do_not_fit_are_refused(stream, rules, message):
    with pytest.raises(OverlayError, match=message):
        make_overlay(stream, "x", OverlayRules(**rules))
