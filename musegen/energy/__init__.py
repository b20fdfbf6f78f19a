"""Energy-based models: free energy, Gibbs sampling, annealed importance sampling."""
