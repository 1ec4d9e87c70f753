"""Mergeable statistics of robot vectors, and the normalisation made from them."""

from oxe_pipeline.stats.normalizer import Normalizer, NormalizerConfig
from oxe_pipeline.stats.statistics import VectorStatistics

__all__ = ["Normalizer", "NormalizerConfig", "VectorStatistics"]
