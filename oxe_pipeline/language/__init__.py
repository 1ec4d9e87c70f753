"""Instructions: cleaning with provenance, paraphrases, and a report of what cleaning found."""

from oxe_pipeline.language.clean import CleanedLabels, clean_labels
from oxe_pipeline.language.paraphrases import ParaphraseError, Paraphrases, load_paraphrases
from oxe_pipeline.language.report import LanguageReport

__all__ = ["CleanedLabels", "LanguageReport", "ParaphraseError", "Paraphrases", "clean_labels", "load_paraphrases"]
