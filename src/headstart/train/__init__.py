"""One run of a recipe: student, data, optimiser, Distiller, clock, checkpoints, run record."""
