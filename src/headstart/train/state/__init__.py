"""What a run leaves behind and takes up again: its folder, checkpoints, and what ends it early."""
