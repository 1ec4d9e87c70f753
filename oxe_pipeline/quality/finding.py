"""Finding: what one audit says about one subject, with the evidence. The form in which manifest and card hold it.

A verdict is of four kinds. "ok": looked at, and nothing against it. "suspect": something that deserves a look but may
be true of this robot. "fault": the data contradict what the data set says of itself. "unknown": too little data to say,
and the evidence says what is lacking. Silence on good data comes before sensitivity, since an audit that cries at good
data is soon ignored: what cannot be told apart from good data is "unknown".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["ok", "suspect", "fault", "unknown"]
Numbers = Mapping[str, float | int | str]

SIGNIFICANT_DIGITS = 4
"""Of the numbers kept: sums merged in another grouping differ in the last bits of float64, and must not show."""

FAULT_SHARE = 0.05
"""One episode in twenty is no accident; a single one deserves a look."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of the audit table."""

    audit: str
    subject: str
    """A slot group ("arm0.gripper"), a raw vector ("state_raw"), a camera, two of them, or "episodes"."""
    verdict: Verdict
    evidence: str
    """One sentence, with numbers and units."""
    numbers: Numbers = field(default_factory=dict)
    remedy: str = ""
    """One sentence, where there is something to do."""

    def to_dict(self) -> dict:
        """JSON-able; floats rounded to SIGNIFICANT_DIGITS."""
        return {
            "audit": self.audit,
            "subject": self.subject,
            "verdict": self.verdict,
            "evidence": self.evidence,
            "numbers": {name: rounded(value) for name, value in sorted(self.numbers.items())},
            "remedy": self.remedy,
        }


def rounded(value: float | int | str) -> float | int | str:
    """A float to SIGNIFICANT_DIGITS, numpy numbers as plain ones; everything else as it is."""
    if isinstance(value, str):
        return value
    plain = value.item() if hasattr(value, "item") else value
    return plain if isinstance(plain, int) else float(f"{plain:.{SIGNIFICANT_DIGITS}g}")


def counted(number: int, noun: str) -> str:
    """ "1 step", "2,000 steps"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def share_verdict(found: int, of: int) -> Verdict:
    """ "ok" for none, "fault" for more than FAULT_SHARE, "suspect" between."""
    if not found:
        return "ok"
    return "fault" if found > FAULT_SHARE * max(of, 1) else "suspect"
