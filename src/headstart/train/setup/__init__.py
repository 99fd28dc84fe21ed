"""What a run is made of, from its recipe: task, teachers, first weights, cached targets, hidden states."""
