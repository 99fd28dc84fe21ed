"""Which entries of a source each axis of a student takes."""
