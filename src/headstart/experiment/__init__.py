"""What a recipe does beyond one run: train its teachers, race its arms here or on a cluster, calibrate, fill caches."""
