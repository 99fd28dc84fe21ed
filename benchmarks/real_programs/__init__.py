"""Training programs of other people, with headstart's lines in them, for benchmarks/works_with.py."""
