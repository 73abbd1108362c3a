"""What is counted, logged and traced; it knows no service and no face.

Whoever has something to count is given `Metrics`; whoever looks at the stack from outside reads
the exposition of them.
"""
