"""What data a run draws from, by content: saved in its state, and compared when the run goes on.

Weights and seed are not part of it: those a state holds whole, while of the data it can only say which they were.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import xxhash

from oxe_pipeline.mixture.order import ORDER_VERSION
from oxe_pipeline.stream.format import canonical_json

_STATE_KEYS = ("g", "seed", "schedule", "order_version", "pool_shards", "split", "identity", "datasets")


class StateError(ValueError):
    """A saved state that does not belong to this mixture: what differs, both values, and the remedy, in one line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataIdentity:
    """The streams, overlays and split of a mixture, and how they are shuffled."""

    split: str
    pool_shards: int | None
    datasets: dict[str, str]
    """Data set to the identity of its stream and, where it has one, "+" and that of its overlay."""

    @property
    def digest(self) -> str:
        """32 hexadecimal digits over the split and the data sets."""
        return xxhash.xxh3_128_hexdigest(canonical_json([self.split, self.datasets]).encode())

    def state(self) -> dict:
        """What `check` needs, as JSON."""
        return {
            "order_version": ORDER_VERSION,
            "pool_shards": self.pool_shards,
            "split": self.split,
            "identity": self.digest,
            "datasets": dict(self.datasets),
        }

    def check(self, state: Mapping) -> None:
        """StateError unless `state`, of a mixture, was saved on the same data, shuffled in the same way.

        Data sets that the state does not know are no hindrance: they have had no sample.
        """
        missing = {*_STATE_KEYS} - set(state)
        if missing:
            raise StateError(f"this is no state of a mixture: {', '.join(sorted(missing))} missing")
        if state["order_version"] != ORDER_VERSION:
            raise StateError(
                f"the state has order version {state['order_version']}, this package draws in version {ORDER_VERSION}; "
                "use the version of the package that saved it"
            )
        if state["pool_shards"] != self.pool_shards:
            raise StateError(
                f"the state was saved with pool_shards {state['pool_shards']}, this mixture has {self.pool_shards}; "
                "use the same"
            )
        if state["split"] != self.split:
            raise StateError(f"the state was saved on split {state['split']!r}, this mixture draws from {self.split!r}")
        for name, identity in state["datasets"].items():
            own = self.datasets.get(name, "")
            if own != identity:
                same_stream = own.partition("+")[0] == identity.partition("+")[0]
                raise StateError(
                    f"data set {name} differs: the state was saved on {_described(identity)}, this mixture holds "
                    f"{_described(own)} (mixtures {state['identity']} and {self.digest}); "
                    + ("name the same overlay in the mixture" if same_stream else "open the same streams")
                )


def _described(identity: str) -> str:
    stream, _, overlay = identity.partition("+")
    if not stream:
        return "none of that name"
    return f"stream {stream} with overlay {overlay}" if overlay else f"stream {stream}"
