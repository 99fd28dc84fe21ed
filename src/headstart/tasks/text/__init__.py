"""Masked-language pretraining of text encoders."""

from headstart.tasks.text.config import MlmData, MlmModel
from headstart.tasks.text.corpus import Corpus, load_corpus
from headstart.tasks.text.masked_head import attach_masked_head
from headstart.tasks.text.models import load_checkpoint, restore_model
from headstart.tasks.text.task import MaskedLM
from headstart.tasks.text.tokenizer import read_tokenizer
from headstart.tasks.text.vocabulary import Vocabulary, check_same_vocabulary, read_vocabulary

__all__ = [
    "Corpus",
    "MaskedLM",
    "MlmData",
    "MlmModel",
    "Vocabulary",
    "attach_masked_head",
    "check_same_vocabulary",
    "load_checkpoint",
    "load_corpus",
    "read_tokenizer",
    "read_vocabulary",
    "restore_model",
]
