"""AI Stack: documents, search, inference and skills behind one local gateway.

Importing the package opens no socket, reads no file and starts no thread.
"""

__version__ = "0.1.0"
