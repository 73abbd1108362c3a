"""Prompts over MCP: a few for the knowledge base, and each skill of instructions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcp_types import GetPromptRequestParams

from ai_stack.errors import AIStackError, InvalidRequest, NotFound
from ai_stack.mcp.calls import Call, Context
from ai_stack.mcp.failures import protocol_error
from ai_stack.mcp.resources import document_uri
from ai_stack.models.skills import Listed

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text with places for its arguments."""

    name: str
    title: str
    description: str
    arguments: Mapping[str, str]
    text: str

    def shown(self) -> Result:
        listed = [
            {"name": name, "description": meaning, "required": True}
            for name, meaning in self.arguments.items()
        ]
        about = {"name": self.name, "title": self.title, "description": self.description}
        return {**about, "arguments": listed}


ANSWER = Prompt(
    "answer_from_documents",
    "Answer from my documents",
    "Answer a question from the stored documents alone, with citations.",
    {"question": "What you want to know."},
    """Answer this question from my stored documents alone: {question}

1. Call search with the question, then with other words for it where the results are thin.
2. Where a passage is cut off, call read_document for what stands around it.
3. Answer in a few sentences. Behind each statement put the id of the document it is from.
4. Where the documents do not say it, say so; add nothing of your own.""",
)
SUMMARIZE = Prompt(
    "summarize_document",
    "Summarize a document",
    "Summarize one stored document.",
    {"id": "The document's id."},
    "Summarize this document: its purpose, its main points, what it decides or asks for.",
)
KEEP = Prompt(
    "remember",
    "Keep this in my documents",
    "Store what was found out in this conversation, where it is not there yet.",
    {"topic": "What it is about."},
    """Keep what we found out about {topic} in my stored documents.

1. Call search to see what is there about it. Where a document says the same, change that one with
   update_document and do not add another.
2. Write it so that it can be understood without this conversation: facts, dates, names, sources.
3. Store it with add_documents, with metadata that filters can use, such as topic and date.
4. Tell me the id under which it lies.""",
)
OWN = {prompt.name: prompt for prompt in (ANSWER, SUMMARIZE, KEEP)}


async def list_prompts(context: Context, _: object) -> Result:
    skills = [one for one in await Call.of(context).skills() if not one.acts]
    return {"prompts": [*(one.shown() for one in OWN.values()), *(_of(one) for one in skills)]}


async def get_prompt(context: Context, params: GetPromptRequestParams) -> Result:
    call, prompt = Call.of(context), OWN.get(params.name)
    try:
        if prompt is None:
            return await _instructions(call, params.name)
        given = _checked(prompt, params.arguments or {})
        messages = [_message({"type": "text", "text": prompt.text.format_map(given)})]
        if prompt is SUMMARIZE:
            messages.insert(0, _message(await _embedded(call, given["id"])))
        return {"description": prompt.description, "messages": messages}
    except AIStackError as error:
        raise protocol_error(error) from error


def _checked(prompt: Prompt, given: Mapping[str, str]) -> Mapping[str, str]:
    missing = {name: "missing" for name in prompt.arguments if not given.get(name)}
    if missing:
        raise InvalidRequest(f"The prompt {prompt.name} needs more arguments.", fields=missing)
    return given


async def _instructions(call: Call, name: str) -> Result:
    skill = await call.stack.skills.get(name)
    if skill.acts:
        raise NotFound("There is no prompt of this name.")
    text = {"type": "text", "text": await call.stack.skills.instructions(name)}
    return {"description": skill.description, "messages": [_message(text)]}


async def _embedded(call: Call, id: str) -> Result:
    document = await call.stack.documents.get(call.principal, id)
    uri = document_uri(document.id)
    contents = {"uri": uri, "mimeType": "text/plain", "text": document.content}
    return {"type": "resource", "resource": contents}


def _message(content: Result) -> Result:
    return {"role": "user", "content": content}


def _of(skill: Listed) -> Result:
    title = skill.name.replace("-", " ").capitalize()
    return {"name": skill.name, "title": title, "description": skill.description}
