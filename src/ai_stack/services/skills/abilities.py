"""What a skill may ask of the stack, each by a name, within what its SKILL.md states.

The answers are in the forms that REST gives, so that a skill's author reads one reference.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import orjson

from ai_stack.errors import AlreadyExists, Forbidden, InvalidRequest, NotFound
from ai_stack.models.answers import document_json, generated_json, page_json, search_json
from ai_stack.models.documents import NewDocument
from ai_stack.models.filters import parse_filter
from ai_stack.models.generation import GenerateRequest
from ai_stack.models.principals import Principal
from ai_stack.models.search import SearchRequest
from ai_stack.services.documents import Documents
from ai_stack.services.handlers import RunContext
from ai_stack.services.inference.generation import Generation
from ai_stack.services.inference.requests import checked
from ai_stack.services.search import Search
from ai_stack.skill.context import Calls
from ai_stack.skill.manifest import Permissions, Use

Parameters: TypeAlias = Mapping[str, Any]
Ability: TypeAlias = Callable[[Principal, Parameters], Awaitable[object]]
LISTED = ("limit", "cursor", "filter", "search", "state")
RANKED = ("mode", "rerank", "min_score", "hybrid_weight")
SEARCHED = ("query", "limit", "offset", "filter", *RANKED)


@dataclass(frozen=True, slots=True)
class Abilities:
    """The services that skills reach."""

    search: Search
    documents: Documents
    generation: Generation

    def of(self, context: RunContext, permissions: Permissions) -> Calls:
        """The calls of one run, in the name of whoever started it."""
        offered = self._offered()

        async def call(ability: str, parameters: Parameters) -> Any:
            if ability == "progress":
                return await _progress(context, parameters)
            if ability not in offered:
                raise InvalidRequest(f"A stack has nothing that is called {ability[:100]!r}.")
            use, answer = offered[ability]
            if use not in permissions.uses:
                raise Forbidden(
                    f"This skill does not state that it uses {use}"
                    " (`ai-stack-uses` in its SKILL.md)."
                )
            return orjson.loads(orjson.dumps(await answer(context.principal, parameters)))

        return call

    def _offered(self) -> dict[str, tuple[Use, Ability]]:
        """What can be asked, with the use that it needs."""
        return {
            "search": ("search", self._search),
            "document": ("documents", self._document),
            "documents": ("documents", self._page),
            "add_documents": ("documents:write", self._add),
            "put_document": ("documents:write", self._put),
            "delete_document": ("documents:write", self._delete),
            "models": ("inference", self._models),
            "generate": ("inference", self._generate),
        }

    async def _search(self, caller: Principal, given: Parameters) -> object:
        answer = await self.search.search(search_request(given), caller)
        return search_json(answer)["results"]

    async def _document(self, caller: Principal, given: Parameters) -> object:
        return document_json(await self.documents.get(caller, _text(given, "id")))

    async def _page(self, caller: Principal, given: Parameters) -> object:
        options = _known(given, LISTED)
        page = await self.documents.page(
            caller, **{**options, "filter": parse_filter(options.get("filter"))}
        )
        return page_json(page)

    async def _add(self, caller: Principal, given: Parameters) -> object:
        found = given.get("documents")
        if not isinstance(found, list):
            raise InvalidRequest("add_documents takes a list of documents.")
        written = await self.documents.add(caller, [new_document(one) for one in found])
        return [document_json(document) for document in written.documents]

    async def _put(self, caller: Principal, given: Parameters) -> object:
        new = new_document(given)
        id = _text(given, "id")
        try:
            written = await self.documents.put(caller, id, new)
        except NotFound:
            try:
                written = await self.documents.add(caller, [new])
            except AlreadyExists:  # another one came first
                written = await self.documents.put(caller, id, new)
        return document_json(written.documents[0])

    async def _delete(self, caller: Principal, given: Parameters) -> object:
        await self.documents.delete(caller, _text(given, "id"))
        return None

    async def _models(self, caller: Principal, given: Parameters) -> object:
        models = self.generation.inference.models()
        return [model.id for model in models if "chat" in model.operations]

    async def _generate(self, caller: Principal, given: Parameters) -> object:
        return generated_json(await self.generation.generate(generate_request(given), caller))


def search_request(given: Parameters) -> SearchRequest:
    """A search, by the fields of POST /search/semantic."""
    options = _known(given, SEARCHED)
    return SearchRequest(**{**options, "filter": parse_filter(options.get("filter"))})


def generate_request(given: Parameters) -> GenerateRequest:
    """What a model is asked: `prompt`, maybe `system` and `documents`, and the fields of chat."""
    messages: list[dict[str, str]] = [{"role": "user", "content": _text(given, "prompt")}]
    if given.get("system"):
        messages.insert(0, {"role": "system", "content": _text(given, "system")})
    own = ("prompt", "system", "documents")
    rest = {name: value for name, value in given.items() if name not in own}
    passed = checked("chat", {**rest, "messages": messages})
    fields = {name: value for name, value in passed.items() if name != "messages"}
    wanted = given.get("documents")
    grounds = None if not wanted else search_request({} if wanted is True else wanted)
    return GenerateRequest(messages, fields=fields, documents=grounds)


def new_document(given: Parameters) -> NewDocument:
    content, metadata = given.get("content"), given.get("metadata") or {}
    if not isinstance(content, str) or not isinstance(metadata, dict):
        raise InvalidRequest("A document has a content, a text, and metadata, an object.")
    return NewDocument(content, metadata, cast("str | None", given.get("id")))


async def _progress(context: RunContext, given: Parameters) -> None:
    done, total = int(given.get("done", 0)), int(given.get("total", 0))
    await context.progress(done, total, str(given.get("message", ""))[:500])


def _known(given: Parameters, names: tuple[str, ...]) -> dict[str, Any]:
    unknown = set(given) - set(names)
    if unknown:
        raise InvalidRequest(f"There is no option {', '.join(sorted(unknown))}.")
    return dict(given)


def _text(given: Parameters, name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be a text.")
    return value
