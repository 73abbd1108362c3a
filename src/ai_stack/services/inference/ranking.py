"""Rankings with the texts that they rank, for those who ask for them."""

from collections.abc import Mapping
from typing import Any

import orjson

from ai_stack.errors import EngineFailed
from ai_stack.services.inference.reading import Answer


async def with_documents(answer: Answer, request: Mapping[str, Any]) -> Answer:
    """An engine's ranking, each result with its `document`, as `return_documents` asks."""
    try:
        told = orjson.loads(await answer.whole())
        for result in told["results"]:
            result["document"] = {"text": request["documents"][result["index"]]}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise EngineFailed("The engine's ranking is none.") from error
    finally:
        await answer.aclose()
    return Answer(engine=answer.engine, cached=answer.cached, body=orjson.dumps(told))
