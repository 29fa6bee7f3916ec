"""A backbone on the bench: what the stages do with a model, whatever it is made for."""
