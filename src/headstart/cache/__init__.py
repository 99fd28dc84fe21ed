"""Cached targets: run the teachers once, then train many students without them."""

from headstart.cache.batches import Batches
from headstart.cache.build import Forecast, Progress, write_cache
from headstart.cache.fingerprint import Fingerprint, fingerprint
from headstart.cache.formats import Keep
from headstart.cache.source import CachedTeacher

__all__ = ["Batches", "CachedTeacher", "Fingerprint", "Forecast", "Keep", "Progress", "fingerprint", "write_cache"]
