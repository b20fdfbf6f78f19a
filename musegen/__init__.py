"""musegen: the classic generative sequence models, trained, measured and heard."""
