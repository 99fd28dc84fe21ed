"""From a plan to a student's weights: entries gathered, scored, fitted, written."""
