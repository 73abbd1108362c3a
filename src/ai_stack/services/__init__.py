"""What the stack does; services know no request, no status code and no argv."""
