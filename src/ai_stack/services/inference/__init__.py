"""Inference: one way from a request to the tokens of a model, whichever engine has it."""
