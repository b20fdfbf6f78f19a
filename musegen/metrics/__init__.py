"""How good a model is: likelihoods first."""
