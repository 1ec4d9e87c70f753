"""Makes overlays: the rules, the order in which they are applied, and what each of them removed.

Rules over whole episodes come first and cost milliseconds; idle steps are looked for last, shard by shard, in what is
left. A step is kept when all rules keep it; weights multiply.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial

import numpy as np
import xxhash

from oxe_pipeline.language.identify import LANGUAGES, identify_language
from oxe_pipeline.overlays import episode_rules
from oxe_pipeline.overlays.idle import IdleRule, action_speeds, moving_steps, speed_limits
from oxe_pipeline.overlays.overlay import Overlay, OverlayError, OverlayHeader, RuleEffect, ranges_identity
from oxe_pipeline.overlays.window_ranges import WindowRanges
from oxe_pipeline.provenance import code_version
from oxe_pipeline.stream.format import canonical_json
from oxe_pipeline.stream.reader import Stream

Track = Callable[[Iterable, str, int], Iterable]
"""(items, what is being done, how many) -> the same items, shown as progress."""


@dataclass(frozen=True, kw_only=True)
class OverlayRules:
    """What is to be left. By default everything."""

    success: bool = False
    """Only episodes marked successful."""
    drop_failed: bool = False
    """No episode marked failed; those nobody judged stay."""
    require_instruction: bool = False
    languages: tuple[str, ...] = ()
    """Only episodes without an instruction that is recognised as another language than these (ISO 639-1)."""
    instruction: str = ""
    """Only episodes all of whose instructions match this regular expression, found anywhere, case ignored."""
    drop_quality_flags: tuple[str, ...] = ()
    drop_label_flags: tuple[str, ...] = ()
    min_steps: int = 1
    """Only episodes of at least so many steps."""
    keep_episodes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """{where they were listed: ids}: only these."""
    drop_episodes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    weights: Mapping[str, Mapping[str, Fraction]] = field(default_factory=dict)
    """{where they were listed: {id: weight}}; several multiply, an episode that is not listed has weight 1."""
    idle: IdleRule | None = None


def _one_by_one(items: Iterable, what: str, total: int) -> Iterable:
    return items


def make_overlay(stream: Stream, name: str, rules: OverlayRules, *, track: Track | None = None) -> Overlay:
    """The overlay of `rules` on a stream, not yet written. Deterministic. `track` may show progress.

    Raises OverlayError for rules that do not fit the stream, and for rules that leave nothing of it.
    """
    length, track = stream.episodes.length, track or _one_by_one
    repeats = np.ones(len(length), np.int32)
    effects: list[RuleEffect] = []
    for rule, parameters, factor in _episode_rules(stream, rules, track):
        before, repeats = repeats, repeats * factor.astype(np.int32)
        kept, was = repeats > 0, before > 0
        effects.append(_effect(rule, parameters, (was.sum(), length[was].sum()), (kept.sum(), length[kept].sum())))
        _check_left(stream, effects)
    repeats //= np.gcd.reduce(repeats)
    ranges = WindowRanges.of_episodes(length, repeats > 0)
    ranges = WindowRanges(ranges.episode, ranges.first_step, ranges.end_step, repeats[ranges.episode])
    if rules.idle:
        whole, ranges = ranges, _moving_ranges(stream, rules.idle, repeats, track)
        counts = [(rows.num_episodes, rows.num_steps) for rows in (whole, ranges)]
        effects.append(_effect("idle", rules.idle.model_dump(exclude_none=True), *counts))
        _check_left(stream, effects)
    return Overlay(header=_header(stream, name, effects, ranges), ranges=ranges)


def _episode_rules(stream: Stream, rules: OverlayRules, track: Track) -> Iterator[tuple[str, dict, np.ndarray]]:
    """(name, parameters, bool or int32 [E]) of each rule that was asked for, in the order of their application."""
    episodes = stream.episodes
    if rules.success:
        yield "success", {}, episode_rules.succeeded(episodes.success)
    if rules.drop_failed:
        yield "drop_failed", {}, episode_rules.not_failed(episodes.success)
    instruction_ids = partial(episodes.column, "instruction_ids")
    if rules.require_instruction:
        yield "require_instruction", {}, episode_rules.with_instruction(instruction_ids(), stream.instructions)
    if rules.languages:
        allowed = _in_languages(stream.instructions, rules.languages, track)
        yield "language", {"keep": list(rules.languages)}, episode_rules.only_instructions(instruction_ids(), allowed)
    if rules.instruction:
        allowed = _matching(stream.instructions, rules.instruction)
        matching = episode_rules.only_instructions(instruction_ids(), allowed)
        matching &= episode_rules.with_instruction(instruction_ids(), stream.instructions)
        yield "instruction", {"matches": rules.instruction}, matching
    for column, flags in (("quality_flags", rules.drop_quality_flags), ("label_flags", rules.drop_label_flags)):
        if flags:
            carried = {flag: episode_rules.with_flag(episodes.column(column), flag) for flag in flags}
            counts = {flag: int(episodes_with.sum()) for flag, episodes_with in carried.items()}
            yield column, {"drop": counts}, ~np.logical_or.reduce(list(carried.values()))
    if rules.min_steps > 1:
        yield "min_steps", {"steps": rules.min_steps}, episodes.length >= rules.min_steps
    yield from _listed_rules(stream, rules)


def _listed_rules(stream: Stream, rules: OverlayRules) -> Iterator[tuple[str, dict, np.ndarray]]:
    if not (rules.keep_episodes or rules.drop_episodes or rules.weights):
        return
    ids = stream.episodes.column("episode_id")
    for where, names in rules.keep_episodes.items():
        yield "keep_episodes", _fingerprint(sorted(set(names))), episode_rules.listed(ids, names, where)
    for where, names in rules.drop_episodes.items():
        yield "drop_episodes", _fingerprint(sorted(set(names))), ~episode_rules.listed(ids, names, where)
    if rules.weights:
        product = [Fraction(1)] * len(stream.episodes)
        for where, weights in rules.weights.items():
            factors = episode_rules.weights_of_episodes(ids, weights, where)
            product = [weight * factor for weight, factor in zip(product, factors, strict=True)]
        written = [{name: str(weight) for name, weight in weights.items()} for weights in rules.weights.values()]
        yield "weights", _fingerprint(written), episode_rules.repeats_of_weights(product)


def _fingerprint(listed: list) -> dict:
    """Long lists go into the header as their number and hash."""
    entries = sum(len(part) if isinstance(part, dict) else 1 for part in listed)
    return {"listed": entries, "xxh3": xxhash.xxh3_128_hexdigest(canonical_json(listed).encode())}


def _in_languages(texts: list[str], languages: tuple[str, ...], track: Track) -> np.ndarray:
    """bool [I]: texts in one of the languages, or too short to tell."""
    for code in languages:
        if code not in LANGUAGES:
            raise OverlayError(f"language {code!r} is not among those told apart: {', '.join(LANGUAGES)}")
    found = (identify_language(text) for text in track(texts, "languages", len(texts)))
    return np.array([code == "" or code in languages for code in found], bool)


def _matching(texts: list[str], pattern: str) -> np.ndarray:
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise OverlayError(f"{pattern!r} is not a regular expression: {error}") from None
    return np.array([compiled.search(text) is not None for text in texts], bool)


def _moving_ranges(stream: Stream, rule: IdleRule, repeats: np.ndarray, track: Track) -> WindowRanges:
    """The ranges of the steps that are not idle, of the episodes that are repeated once or more."""
    limit, is_delta, is_velocity = speed_limits(stream.manifest, rule)
    index = stream.episodes
    by_shard = np.argsort(index.shard, kind="stable")
    bounds = np.searchsorted(index.shard[by_shard], np.arange(len(stream.manifest.shards) + 1))
    found = []
    for number in track(range(len(stream.manifest.shards)), "idle steps", len(stream.manifest.shards)):
        here = by_shard[bounds[number] : bounds[number + 1]]
        if not (repeats[here] > 0).any():
            continue
        length, rate_hz = index.length[here], index.control_hz[here]
        speeds = action_speeds(stream.shard(number).vectors["action"], length, rate_hz, is_delta, is_velocity)
        idle = np.all(speeds < limit, axis=1)
        moving = moving_steps(np.asarray(idle), length, rate_hz, rule)
        ranges = WindowRanges.of_steps(np.where(moving, np.repeat(repeats[here], length), 0), length)
        found.append((here[ranges.episode], ranges.first_step, ranges.end_step, ranges.repeats))
    columns = [np.concatenate(parts).astype(np.int32) for parts in zip(*found, strict=True)]
    order = np.lexsort((columns[1], columns[0]))
    return WindowRanges(*(column[order] for column in columns))


def _effect(rule: str, parameters: dict, before: tuple, after: tuple) -> RuleEffect:
    return RuleEffect(
        rule=rule,
        parameters=parameters,
        episodes_removed=int(before[0] - after[0]),
        steps_removed=int(before[1] - after[1]),
        episodes_left=int(after[0]),
        steps_left=int(after[1]),
    )


def _check_left(stream: Stream, effects: list[RuleEffect]) -> None:
    if not effects[-1].steps_left:
        raise OverlayError(
            f"{stream.name}: rule {effects[-1].rule} removes the last {effects[-1].steps_removed:,} steps and leaves "
            "nothing to draw; loosen it, or leave the data set out of the mixture"
        )


def _header(stream: Stream, name: str, effects: list[RuleEffect], ranges: WindowRanges) -> OverlayHeader:
    index = stream.episodes
    splits = {split: ranges.within(index.split_is(split)) for split in sorted(index.split_names())}
    return OverlayHeader(
        name=name,
        dataset=stream.name,
        stream=stream.identity,
        code_version=code_version(),
        episodes=len(index),
        steps=int(index.length.sum()),
        rules=effects,
        steps_left={split: rows.num_steps for split, rows in splits.items()},
        windows={split: rows.num_windows for split, rows in splits.items()},
        identity=ranges_identity(stream.identity, ranges),
    )
