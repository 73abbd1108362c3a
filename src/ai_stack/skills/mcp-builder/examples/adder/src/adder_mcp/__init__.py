"""A server that adds."""
