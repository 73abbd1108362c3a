"""The REST face: a handler parses, calls one service method and formats; it decides nothing."""

from fastapi import APIRouter

from ai_stack.rest import (
    agent,
    auth,
    devices,
    documents,
    embeddings,
    encryption,
    generation,
    health,
    imports,
    index,
    inference,
    keys,
    metrics,
    oidc,
    page,
    projects,
    runs,
    search,
    sessions,
    signing_in,
    skills,
    users,
    wellknown,
)
from ai_stack.rest.openai import routes as openai
from ai_stack.rest.requests import JsonRoute

PARTS = (
    *(health, metrics, page, imports, documents, search, runs, index, embeddings, encryption),
    *(generation, inference, sessions, skills, agent, keys, auth, users, projects),
    *(signing_in, oidc, devices, wellknown),
)


def create_router() -> APIRouter:
    """All routes of REST."""
    router = APIRouter(route_class=JsonRoute)
    for part in PARTS:
        router.include_router(part.router)
    router.include_router(devices.pages)
    router.include_router(openai.create_router())
    return router
