"""The Distiller inside the Trainers of transformers and Lightning: what of their batches are logits and labels."""
