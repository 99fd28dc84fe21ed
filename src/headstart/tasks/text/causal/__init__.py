"""Pretraining of causal language models: the next token, from hidden states, without logits in full."""
