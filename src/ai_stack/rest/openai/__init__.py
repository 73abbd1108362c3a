"""The face that speaks OpenAI's API, under /v1; it decides nothing.

What is asked most is plain ASGI: `HOT` serves it without FastAPI's own work, which describes it.
"""
