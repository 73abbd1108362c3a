"""Weights of language models: GGUF files named, pulled, kept on a shelf, and weighed.

It knows files and the hub that they come from; what runs them is the business of others.
"""
