"""The one place that builds things: a Stack of services over the doors that the settings name."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from ai_stack.database import Database, changes, inferences
from ai_stack.doors import Doors, open_doors
from ai_stack.models.principals import Scope
from ai_stack.services import places
from ai_stack.services.agent import KIND as AGENT
from ai_stack.services.agent import QUEUE as AGENTS
from ai_stack.services.agent import Agent, Working
from ai_stack.services.agent.toolbox import Toolbox
from ai_stack.services.auth.accounts import Accounts
from ai_stack.services.auth.auditing import Audit
from ai_stack.services.auth.devices import Devices
from ai_stack.services.auth.erasure import KIND as DELETE_PROJECT
from ai_stack.services.auth.erasure import Erasure
from ai_stack.services.auth.identity import Identity
from ai_stack.services.auth.issuers import Issuer, open_issuers
from ai_stack.services.auth.keys import Keys
from ai_stack.services.auth.oidc import SignOn
from ai_stack.services.auth.projects import Projects
from ai_stack.services.auth.secrets import Secrets, open_secrets
from ai_stack.services.backup import shelf
from ai_stack.services.documents import Documents
from ai_stack.services.embedding import Array, Models
from ai_stack.services.embedding_models import EmbeddingModels
from ai_stack.services.encryption.projects import KIND as SEAL
from ai_stack.services.encryption.projects import Encryption, Resealing
from ai_stack.services.exports import Exports
from ai_stack.services.fsck import Fsck
from ai_stack.services.handlers import Handler
from ai_stack.services.health import HealthChecks, Probe
from ai_stack.services.imports import Imports
from ai_stack.services.index import Index
from ai_stack.services.indexing import Indexing
from ai_stack.services.inference import Inference
from ai_stack.services.inference.answers import Answers
from ai_stack.services.inference.dialect_calls import Messages, Responses
from ai_stack.services.inference.embeddings import Embeddings
from ai_stack.services.inference.fleet import Fleet
from ai_stack.services.inference.generation import Generation
from ai_stack.services.inference.journal import Journal
from ai_stack.services.inference.prices import read_prices
from ai_stack.services.inference.routing import Router
from ai_stack.services.inference.sessions import Sessions
from ai_stack.services.inference.similar import SimilarAnswers
from ai_stack.services.inference.stored import StoredResponses
from ai_stack.services.inference.usage import Usage
from ai_stack.services.limits import Limits
from ai_stack.services.maintenance import Maintenance
from ai_stack.services.points import Points
from ai_stack.services.renewals import Renewals
from ai_stack.services.retention import Retention
from ai_stack.services.runs import Runs
from ai_stack.services.scrape import Scrape
from ai_stack.services.search import Search
from ai_stack.services.skills import KIND as SKILL
from ai_stack.services.skills import QUEUE as SKILLS
from ai_stack.services.skills import Skills
from ai_stack.services.skills.abilities import Abilities
from ai_stack.services.skills.apart import Apart
from ai_stack.services.skills.catalog import Catalog
from ai_stack.services.skills.execution import Execution
from ai_stack.services.skills.schemas import Schemas
from ai_stack.services.uploads import Uploads
from ai_stack.services.watching import Watching
from ai_stack.settings import Settings
from ai_stack.telemetry import Telemetry

# What a principal needs to have a run of each kind done; those that run alone are the operator's.
SCOPES = {
    "import": Scope.WRITE,
    "watch": Scope.WRITE,
    SKILL: Scope.SKILLS,
    AGENT: Scope.AGENT,
    DELETE_PROJECT: Scope.OPERATE,
    SEAL: Scope.MANAGE,
}


@dataclass(frozen=True, slots=True, repr=False)
class Stack:
    """The services, and the settings that they were built from: too much for a repr."""

    settings: Settings
    database: Database
    models: Models
    indexing: Indexing
    documents: Documents
    search: Search
    runs: Runs
    uploads: Uploads
    exports: Exports
    watching: Watching
    retention: Retention
    embeddings: EmbeddingModels
    maintenance: Maintenance
    inference: Inference
    text_embeddings: Embeddings
    generation: Generation
    sessions: Sessions
    usage: Usage
    responses: Responses
    messages: Messages
    skills: Skills
    agent: Agent
    identity: Identity
    keys: Keys
    projects: Projects
    issuers: tuple[Issuer, ...]
    accounts: Accounts
    sign_on: SignOn
    devices: Devices
    audit: Audit
    encryption: Encryption
    limits: Limits
    health: HealthChecks
    telemetry: Telemetry
    scrape: Scrape


@asynccontextmanager
async def open_stack(settings: Settings, *, watched: bool = True) -> AsyncIterator[Stack]:
    """Build everything in order, close it in reverse.

    `watched`: a database that stands still is an error to whoever asks it, within seconds. The
    worker goes without: it owes no answer, and what it waits for goes on where it stood.
    Raises SettingsError for a URL that is missing, since nothing is started here, and
    StackError for a database that is not fit for use. Other parts may be down: what needs
    them says so when it is asked.
    """
    async with AsyncExitStack() as exits:
        stack = _assembled(settings, await open_doors(settings, exits, watched))
        await exits.enter_async_context(stack.limits.running())
        await exits.enter_async_context(stack.telemetry.running())
        exits.push_async_callback(stack.scrape.aclose)
        await exits.enter_async_context(stack.inference.running())
        yield stack


@dataclass(frozen=True, slots=True)
class _Answering:
    """The services that answer at once, which runs use as well."""

    indexing: Indexing
    documents: Documents
    search: Search
    inference: Inference
    generation: Generation
    limits: Limits


@dataclass(frozen=True, slots=True)
class _Working:
    """The runs, and the services whose work they are."""

    runs: Runs
    imports: Imports
    maintenance: Maintenance
    embeddings: EmbeddingModels
    skills: Skills
    agent: Agent
    erasure: Erasure


def _assembled(settings: Settings, doors: Doors) -> Stack:
    database, answering = doors.database, _answering(settings, doors)
    secrets = open_secrets(settings.secrets)
    issuers = open_issuers(settings.issuers)
    accounts = Accounts.of(database, secrets, doors.own_key, issuers, settings)
    identity = _identity(settings, database, secrets, accounts, issuers)
    working = _working(settings, doors, answering, identity)
    stored = StoredResponses(database)
    inference, runs = answering.inference, working.runs
    return Stack(
        settings=settings,
        database=database,
        models=doors.models,
        indexing=answering.indexing,
        documents=answering.documents,
        search=answering.search,
        runs=runs,
        uploads=_uploads(settings, database, runs),
        exports=Exports(database),
        watching=_watching(settings, database, runs, working.imports),
        retention=Retention(database, stored, (accounts.sweep, working.erasure.sweep)),
        embeddings=working.embeddings,
        maintenance=working.maintenance,
        inference=inference,
        text_embeddings=Embeddings(inference, doors.models),
        generation=answering.generation,
        sessions=Sessions(doors.conversations, answering.generation, settings.session_ttl_s),
        usage=Usage(database),
        responses=Responses(inference, stored),
        messages=Messages(inference),
        skills=working.skills,
        agent=working.agent,
        identity=identity,
        keys=Keys(database, secrets),
        projects=Projects(database, runs),
        issuers=issuers,
        accounts=accounts,
        sign_on=SignOn.of(database, secrets, accounts.logins, issuers),
        devices=Devices(database, secrets, accounts.logins),
        audit=Audit(database),
        encryption=Encryption(database, doors.keyring, runs),
        limits=answering.limits,
        health=HealthChecks(_probes(settings, doors, inference)),
        telemetry=doors.telemetry,
        scrape=Scrape(settings, doors.telemetry, database, doors.models, doors.vectors, inference),
    )


def _identity(
    settings: Settings,
    database: Database,
    secrets: Secrets,
    accounts: Accounts,
    issuers: Sequence[Issuer],
) -> Identity:
    return Identity(
        database,
        secrets,
        "required" if issuers and settings.auth == "auto" else settings.auth,
        settings.auth_grace_s,
        accounts.readers,
        accounts.logins.lookups,
        accounts.tokens.signing.forget,
    )


def _answering(settings: Settings, doors: Doors) -> _Answering:
    renewals, counted = Renewals(doors.cache), doors.telemetry.counted
    indexing = Indexing(doors.database, doors.models, doors.vectors, renewals, counted)
    limits = Limits.over(doors.counters, doors.database, settings.limits_without_redis)
    inference, search = _inference(settings, doors, limits), _search(settings, doors)
    documents = Documents(doors.database, indexing, limits)
    generation = Generation(inference, search)
    return _Answering(indexing, documents, search, inference, generation, limits)


def _working(
    settings: Settings, doors: Doors, answering: _Answering, identity: Identity
) -> _Working:
    documents, search, inference = answering.documents, answering.search, answering.inference
    imports = _imports(settings, doors, answering.limits)
    maintenance, embeddings = _maintenance(doors, answering.indexing)
    abilities = Abilities(search, documents, answering.generation)
    execution = _execution(settings, doors, abilities)
    started = _runs(doors, {}, (), identity)  # which starts and follows runs, and does none
    skills = Skills(doors.database, execution.catalog, execution.schemas, started)
    toolbox = Toolbox(search, documents, skills)
    erasure = Erasure(doors.database, started, doors.models, doors.vectors, doors.traces)
    handlers: dict[str, Handler] = {
        "import": imports,
        "watch": places.accept,
        SKILL: execution,
        AGENT: Working(inference, toolbox),
        DELETE_PROJECT: erasure,
        SEAL: Resealing(doors.database),
        **maintenance.handlers,
    }
    runs = _runs(doors, handlers, maintenance.handlers, identity)
    agent = Agent(runs, toolbox)
    return _Working(runs, imports, maintenance, embeddings, skills, agent, erasure)


def _imports(settings: Settings, doors: Doors, limits: Limits) -> Imports:
    return Imports(
        doors.database,
        doors.parsers,
        settings.import_max_file_bytes,
        settings.import_allow_private_urls,
        limits,
    )


def _maintenance(doors: Doors, indexing: Indexing) -> tuple[Maintenance, EmbeddingModels]:
    database, models, vectors = doors.database, doors.models, doors.vectors
    fsck = Fsck(database, models, indexing, Points(database, vectors, indexing))
    embeddings = EmbeddingModels(database, models, vectors, indexing, fsck)
    index = Index(database, models, vectors, indexing, fsck)
    return Maintenance(database, index, fsck, embeddings), embeddings


def _runs(
    doors: Doors, handlers: Mapping[str, Handler], alone: Iterable[str], identity: Identity
) -> Runs:
    queues = {SKILL: SKILLS, AGENT: AGENTS}
    alone = frozenset(alone)
    scopes = {**SCOPES, **dict.fromkeys(alone, Scope.OPERATE)}
    counted, rights = doors.telemetry.counted, identity.renewed
    return Runs(doors.database, doors.notices, handlers, alone, queues, rights, scopes, counted)


def _execution(settings: Settings, doors: Doors, abilities: Abilities) -> Execution:
    apart = Apart(doors.sandbox)
    catalog = Catalog(settings.folders_of_skills, doors.sandbox)
    schemas = Schemas(apart, settings.data_dir / "cache" / "skills")
    folders = tuple(settings.open_to_skills)
    counted = doors.telemetry.counted
    return Execution(doors.database, catalog, schemas, apart, abilities, folders, counted)


def _search(settings: Settings, doors: Doors) -> Search:
    return Search(
        doors.database,
        doors.models,
        doors.vectors,
        doors.cache,
        doors.reranker,
        settings.hybrid_weight,
        settings.search_cache_ttl_s,
        doors.telemetry.counted,
        doors.replica,
    )


def _inference(settings: Settings, doors: Doors, limits: Limits) -> Inference:
    return Inference(
        Fleet(doors.engines, settings.default_model),
        Router(settings.inference_queue),
        Answers(doors.cache, settings.inference_cache_ttl_s),
        Journal(
            partial(inferences.write, doors.database),
            read_prices(settings.inference_prices),
            tell=doors.telemetry.inferences,
        ),
        settings.inference_timeout_s,
        _similar(settings, doors),
        doors.telemetry.tracing,
        limits=limits,
        logs_bodies=settings.inference_log_bodies,
    )


def _similar(settings: Settings, doors: Doors) -> SimilarAnswers | None:
    if not settings.semantic_cache:
        return None
    models, ttl_s = doors.models, settings.inference_cache_ttl_s

    async def embed(text: str) -> Array:
        return (await models.query(text))[1]

    return SimilarAnswers(doors.cache, embed, settings.semantic_cache, ttl_s)


def _uploads(settings: Settings, database: Database, runs: Runs) -> Uploads:
    return Uploads(
        database,
        runs,
        settings.import_max_file_bytes,
        settings.import_max_total_bytes,
        settings.import_allow_private_urls,
    )


def _watching(settings: Settings, database: Database, runs: Runs, imports: Imports) -> Watching:
    folder = settings.data_dir / "imports"
    return Watching(database, runs, imports, folder, settings.watch_interval_s)


def _probes(settings: Settings, doors: Doors, inference: Inference) -> dict[str, Probe | None]:
    return {
        "postgres": doors.database.ping,
        "redis": lambda: _redis(doors),
        "vectors": doors.vectors.ping,
        "embedder": doors.models.ping,
        "llama-cpp": inference.fleet.ping if doors.engines else None,
        "jobs": lambda: _work(settings, doors.database),
    }


async def _redis(doors: Doors) -> None:
    """Both have to answer: what is cached, and what is not to be evicted."""
    await doors.cache.ping()
    await doors.counters.ping()


async def _work(settings: Settings, database: Database) -> str:
    waiting, failed = await changes.count(database)
    backups = await asyncio.to_thread(shelf.care, settings.backups)
    told = backups.told()
    return f"{waiting} changes waiting, {failed} failed" + (f"; {told}" if told else "")
