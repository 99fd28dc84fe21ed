"""What a recipe's run would cost on this machine, measured in about a minute before it is trained."""
