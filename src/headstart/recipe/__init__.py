"""The recipe: its sections, reading and checking it, and the kinds of steps it has."""
