"""From the runs of a race to its verdict: curves, noise, speed-ups and their intervals."""
