"""Encryption at rest: envelopes, the keys that seal them, and their rotation."""
