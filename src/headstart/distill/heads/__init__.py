"""What a row of outputs means: the kinds of heads, how their outputs lie, and models with several of them."""
