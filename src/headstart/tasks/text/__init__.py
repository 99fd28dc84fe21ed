"""Pretraining on text: of encoders, by masked tokens, and of causal language models."""

from headstart.tasks.text.causal.head import attach_causal_head
from headstart.tasks.text.causal.task import CausalLM
from headstart.tasks.text.config import ClmData, ClmModel, MlmData, MlmModel
from headstart.tasks.text.corpus import Corpus, load_corpus
from headstart.tasks.text.masked_head import attach_masked_head
from headstart.tasks.text.models import load_checkpoint, restore_model
from headstart.tasks.text.task import MaskedLM
from headstart.tasks.text.tokenizer import read_tokenizer
from headstart.tasks.text.vocabulary import Vocabulary, check_same_vocabulary, read_vocabulary

__all__ = [
    "CausalLM",
    "ClmData",
    "ClmModel",
    "Corpus",
    "MaskedLM",
    "MlmData",
    "MlmModel",
    "Vocabulary",
    "attach_causal_head",
    "attach_masked_head",
    "check_same_vocabulary",
    "load_checkpoint",
    "load_corpus",
    "read_tokenizer",
    "read_vocabulary",
    "restore_model",
]
