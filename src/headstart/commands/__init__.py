"""What each command does and shows, beneath the command line."""
