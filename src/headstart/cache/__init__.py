"""Cached targets: run the teachers once, or take what others made, then train many students without them."""

from headstart.cache.batches import Batches, EachView, all_views
from headstart.cache.build import Forecast, Progress, write_cache
from headstart.cache.fingerprint import Fingerprint, fingerprint
from headstart.cache.formats import Keep
from headstart.cache.given import target_of_logprobs, write
from headstart.cache.source import CachedTeacher

__all__ = [
    "Batches",
    "CachedTeacher",
    "EachView",
    "Fingerprint",
    "Forecast",
    "Keep",
    "Progress",
    "all_views",
    "fingerprint",
    "target_of_logprobs",
    "write",
    "write_cache",
]
