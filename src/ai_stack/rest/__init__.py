"""The REST face: a handler parses, calls one service method and formats; it decides nothing."""

from fastapi import APIRouter

from ai_stack.rest import (
    agent,
    auth,
    documents,
    embeddings,
    generation,
    encryption,
    health,
    imports,
    index,
    inference,
    keys,
    metrics,
    page,
    projects,
    runs,
    search,
    sessions,
    skills,
    users,
)
from ai_stack.rest.openai import routes as openai
from ai_stack.rest.requests import JsonRoute

PARTS = (
    *(health, metrics, page, imports, documents, search, runs, index, embeddings, encryption),
    *(generation, inference, sessions, skills, agent, keys, auth, users, projects),
)


def create_router() -> APIRouter:
    """All routes of REST."""
    router = APIRouter(route_class=JsonRoute)
    for part in PARTS:
        router.include_router(part.router)
    router.include_router(openai.create_router())
    return router
