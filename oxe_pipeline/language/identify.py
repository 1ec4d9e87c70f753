"""Which language a label is in, by py3langid: for flags and reports only, no label is ever dropped for it.

Choosing among 24 languages instead of the model's 97 makes short English sentences certain more often. Of the 3,736
different English labels of Open X-Embodiment, CALVIN and RoboMIND at hand, with the limits below, none was called
foreign and 2,689 were called English (all 97 languages: none and 1,703); the rest is too short to say. Trades away: a
language outside the list is taken for a relative inside it, or for unsure. The model takes 0.7 s to load, at the first
label long enough, then less than 0.1 ms a label.
"""

from functools import cache, lru_cache

MIN_LETTERS = 20
"""Shorter labels in Latin letters are not judged. Other scripts tell by themselves."""
MIN_PROBABILITY = 0.9
LANGUAGES = (
    *("ar", "cs", "de", "el", "en", "es", "fi", "fr", "he", "hi", "id", "it"),
    *("ja", "ko", "nl", "pl", "pt", "ru", "sv", "th", "tr", "uk", "vi", "zh"),
)


@lru_cache(maxsize=65536)
def identify_language(text: str) -> str:
    """ISO 639-1 code of a label's language, or "" where it cannot be told. Deterministic.

    Raises ImportError with the install command where py3langid is absent.
    """
    letters = [c for c in text if c.isalpha()]
    if not letters or (len(letters) < MIN_LETTERS and sum(ord(c) < 0x250 for c in letters) * 2 >= len(letters)):
        return ""
    code, probability = _identifier().classify(text)
    return code if probability >= MIN_PROBABILITY else ""


@cache
def _identifier():
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise ImportError("language identification needs py3langid: pip install 'oxe-pipeline[build]'") from None
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(list(LANGUAGES))
    return identifier
