"""Masked-language pretraining of text encoders."""

from headstart.tasks.text.config import MlmData, MlmModel

__all__ = ["MlmData", "MlmModel"]
