"""How the nouns look in JSON, the same at every face."""

from ai_stack.models.documents import Document, DocumentPage
from ai_stack.models.generation import Generated, Grounds
from ai_stack.models.runs import Run
from ai_stack.models.search import SearchAnswer, SearchResult


def document_json(document: Document) -> dict[str, object]:
    """A document; `error` is there only when indexing has failed."""
    shown: dict[str, object] = {
        "id": document.id,
        "content": document.content,
        "metadata": document.metadata,
        "created_at": document.created_at,
        "updated_at": document.updated_at,
        "state": document.state,
    }
    if document.error is not None:
        shown["error"] = document.error
    return shown


def page_json(page: DocumentPage) -> dict[str, object]:
    return {"items": [document_json(d) for d in page.items], "next_cursor": page.next_cursor}


def search_json(answer: SearchAnswer) -> dict[str, object]:
    """A search's answer; `degraded` is there only when something was left out."""
    shown: dict[str, object] = {
        "results": [_result_json(result) for result in answer.results],
        "took_ms": answer.took_ms,
        "cached": answer.cached,
    }
    if answer.degraded is not None:
        shown["degraded"] = answer.degraded
    return shown


def _result_json(result: SearchResult) -> dict[str, object]:
    return {
        "document": document_json(result.document),
        "score": result.score,
        "passages": result.passages,
    }


def run_json(run: Run) -> dict[str, object]:
    """A run; `progress` is there when it has told any, `error` when it failed."""
    shown: dict[str, object] = {
        "id": run.id,
        "kind": run.kind,
        "status": run.status,
        "input": run.input,
        "output": run.output,
        "created_at": run.created_at,
        "finished_at": run.finished_at,
    }
    if run.progress is not None:
        shown["progress"] = run.progress
    if run.error is not None:
        shown["error"] = run.error
    return shown


def generated_json(made: Generated) -> dict[str, object]:
    """An answer; what was not asked for or did not happen is left out."""
    shown: dict[str, object] = {
        "text": made.text,
        "model": made.model,
        "usage": {
            "prompt_tokens": made.usage.prompt,
            "completion_tokens": made.usage.completion,
            "total_tokens": made.usage.prompt + made.usage.completion,
        },
        "cached": made.cached,
        "finish_reason": made.finish_reason,
    }
    if made.reasoning:
        shown["reasoning"] = made.reasoning
    if made.grounds is not None:
        shown |= _grounds_json(made.grounds)
    if made.counted is not None:
        shown["counted"] = made.counted
    if made.session is not None:
        shown["session"] = made.session
    return shown


def _grounds_json(grounds: Grounds) -> dict[str, object]:
    passages = {"found": grounds.found, "shown": grounds.shown}
    shown: dict[str, object] = {"citations": grounds.citations, "passages": passages}
    if grounds.degraded is not None:
        shown["degraded"] = grounds.degraded
    return shown


def skill_run_json(run: Run) -> dict[str, object]:
    """A run of a skill; `error` is there when it failed, `duration_ms` when it has ended.

    A run that waits for its turn is told as running: who asked for it cannot tell them apart.
    """
    made = run.output or {}
    shown: dict[str, object] = {
        "run_id": run.id,
        "status": "running" if run.status == "queued" else run.status,
        "output": made.get("output"),
        "artifacts": made.get("artifacts", []),
    }
    shown |= {name: made[name] for name in ("summary", "notes") if made.get(name)}
    if run.error is not None:
        shown["error"] = run.error
    if run.finished_at is not None:
        took = run.finished_at - run.created_at
        shown["duration_ms"] = round(took.total_seconds() * 1000, 1)
    elif run.progress is not None:
        shown["progress"] = run.progress
    return shown
