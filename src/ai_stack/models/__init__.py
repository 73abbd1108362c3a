"""The nouns that travel between the floors; they know no server and no file."""
