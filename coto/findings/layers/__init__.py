"""Which layers matter: Shapley values, dropout stability, gradients."""
