"""What a run costs: its clock, FLOPs, energy, teachers, and where it ran."""
