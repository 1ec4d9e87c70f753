"""Instructions: cleaning with provenance, and a report of what cleaning found."""

from oxe_pipeline.language.clean import CleanedLabels, clean_labels
from oxe_pipeline.language.report import LanguageReport

__all__ = ["CleanedLabels", "LanguageReport", "clean_labels"]
