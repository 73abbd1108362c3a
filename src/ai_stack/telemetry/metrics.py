"""Everything that is measured: each instrument with its name, its meaning and its labels.

No label ever names a user, a key or a project.
"""

from collections.abc import Iterator
from typing import Any

from ai_stack.telemetry.instruments import (
    BRIEF,
    WORK,
    Counter,
    Gauge,
    Histogram,
    Instrument,
)


class Metrics:
    """What this process counts, and what a scrape finds out about all the others."""

    def __init__(self) -> None:
        self.counted, self.process, self.found = Counted(), Process(), Found()

    def own(self) -> list[Instrument]:
        """What is this process' own, which shows its `process`."""
        return [*_instruments(self.counted), *_instruments(self.process)]

    def shared(self) -> list[Instrument]:
        """What every gateway of a stack tells alike."""
        return [*_instruments(self.found)]


class Counted:
    """What happens in a process.

    Each counts for itself: `process` is `gateway`, or `worker` for the sum of all workers, which
    every gateway tells alike.
    """

    def __init__(self) -> None:
        self.requests = Histogram(
            "aidb_request_seconds",
            "Requests by their duration, streams to their end; status is 2xx and so on, or left.",
            *("route", "method", "status"),
        )
        self.authentications = Counter(
            "aidb_authentications_total",
            "Callers that were let in (accepted), or turned away for what the verdict says.",
            "verdict",
        )
        self.limits_refused = Counter(
            "aidb_limits_refused_total", "Requests over a limit, by the limit's name.", "limit"
        )
        self.limits_degraded = Counter(
            "aidb_limits_degraded_total", "Decisions on limits that were made without Redis."
        )
        self.mcp_calls = Histogram(
            "aidb_mcp_call_seconds", "Calls of MCP tools by their duration.", "tool", "outcome"
        )
        self.searches = Histogram(
            "aidb_search_seconds",
            "Searches by their duration; result is found, cached, degraded or failed.",
            *("mode", "result"),
            bounds=BRIEF,
        )
        self.replica_searches = Counter(
            "aidb_replica_searches_total",
            "Searches where there is a replica: read there, or at the primary since it was behind "
            "or failed.",
            "outcome",
        )
        self.embeddings = Histogram(
            "aidb_embedding_seconds",
            "Calls of the embedder by their duration; kind is query or passage.",
            *("kind", "outcome"),
            bounds=BRIEF,
        )
        self.embedded_texts = Counter(
            "aidb_embedded_texts_total", "Texts that were embedded.", "kind"
        )
        self.indexed = Counter(
            "aidb_indexed_documents_total", "Changes of documents that the index has followed."
        )
        self.indexing_failures = Counter(
            "aidb_indexing_failures_total",
            "Changes that could not be followed: tried again, or given_up.",
            "then",
        )
        self.runs = Histogram(
            "aidb_run_seconds", "Runs by their duration.", "kind", "status", bounds=WORK
        )
        self.skills = Histogram(
            "aidb_skill_seconds",
            "Runs of skills by their duration.",
            *("skill", "status"),
            bounds=WORK,
        )
        self.queries = Histogram(
            "aidb_database_query_seconds", "Statements by their duration.", bounds=BRIEF
        )
        self.slow = Counter(
            "aidb_slow_operations_total",
            "Requests and statements that took longer than AI_STACK_SLOW_S.",
            "kind",
        )
        self._inference()

    def _inference(self) -> None:
        self.inferences = Counter(
            "aidb_inference_requests_total",
            "Requests to models; cache is hit, shared with an equal request at once, or miss.",
            *("operation", "model", "outcome", "cache"),
        )
        self.inference_seconds = Histogram(
            "aidb_inference_seconds",
            "Answers of engines by their duration.",
            *("operation", "model", "engine"),
        )
        self.first_token = Histogram(
            "aidb_inference_first_token_seconds",
            "Streamed answers by the time to their first token.",
            *("model", "engine"),
        )
        self.tokens = Counter(
            "aidb_inference_tokens_total",
            "Tokens of engines' work: prompt, completion, and cached of the prompt's.",
            *("model", "kind"),
        )
        self.cost = Counter(
            "aidb_inference_cost_total", "What answers cost, by the prices.", "model"
        )
        self.tool_calls = Counter(
            "aidb_tool_calls_mended_total",
            "Malformed calls of tools that were repaired, or failed to be.",
            *("model", "outcome"),
        )


class Process:
    """What a process is at the moment of a scrape.

    Of several workers the largest value is told.
    """

    def __init__(self) -> None:
        self.build = Gauge("aidb_build_info", "1, with the versions.", "version", "python")
        self.started = Gauge("aidb_process_start_time_seconds", "When it started, in Unix time.")
        self.cpu = Counter("aidb_process_cpu_seconds_total", "Processor time that it has used.")
        self.memory = Gauge("aidb_process_resident_bytes", "Memory that it holds.")
        self.descriptors = Gauge("aidb_process_descriptors", "Files and sockets that it has open.")
        self.lag = Histogram(
            "aidb_event_loop_lag_seconds",
            "By how much a timer of the event loop was late.",
            bounds=BRIEF,
        )
        self.certificate = Gauge(
            "aidb_tls_certificate_expiry_seconds",
            "Time until the certificate that is served expires.",
        )
        self.queue = Gauge("aidb_inference_queue", "Requests that wait for a free engine.")
        self.log_waiting = Gauge(
            "aidb_inference_log_waiting", "Inferences that are still to be logged."
        )
        self.log_dropped = Counter(
            "aidb_inference_log_dropped_total", "Inferences that are not in the log: it was full."
        )
        self.engine_up = Gauge("aidb_engine_up", "Whether an engine answers.", "engine")
        self.engine_slots = Gauge(
            "aidb_engine_slots", "Requests that an engine works on at once.", "engine", "model"
        )
        self.engine_working = Gauge(
            "aidb_engine_working", "Requests of this process at an engine.", "engine"
        )


class Found:
    """What is true of the whole stack.

    It is looked up for a scrape, so every gateway tells the same; what cannot be found out now is
    left out.
    """

    def __init__(self) -> None:
        self.up = Gauge("aidb_up", "Whether a part answers.", "part")
        self.probe = Gauge("aidb_probe_seconds", "How long a part took to answer.", "part")
        self.workers = Gauge("aidb_workers", "Workers that were heard of within half a minute.")
        self.disk_free = Gauge("aidb_disk_free_bytes", "Free space beside the data.")
        self.disk_size = Gauge("aidb_disk_size_bytes", "Size of the disk that the data are on.")
        self.backup_age = Gauge("aidb_backup_age_seconds", "Age of the newest backup.")
        self.backup_failed = Gauge("aidb_backup_failed", "Whether the last daily backup failed.")
        self.projects = Gauge("aidb_projects", "Projects.")
        self.documents = Gauge("aidb_documents", "Documents of all projects.")
        self.chunks = Gauge("aidb_chunks", "Passages that these were cut into.")
        self.changes = Gauge(
            "aidb_changes", "Changes that the index has not followed: waiting or failed.", "state"
        )
        self.change_age = Gauge(
            "aidb_oldest_change_seconds", "For how long the change that is due longest has waited."
        )
        self.vectors = Gauge("aidb_index_vectors", "Vectors in PostgreSQL of the active model.")
        self.points = Gauge("aidb_index_points", "Points of the active model in the vector index.")
        self.divergence = Gauge(
            "aidb_index_divergence", "Vectors and points that have no counterpart, at least."
        )
        self.runs = Gauge("aidb_runs", "Runs that are kept.", "kind", "status")
        self.jobs = Gauge("aidb_jobs", "Jobs in the queues of the workers.", "queue", "status")
        self._postgres()
        self._redis()
        for one in _instruments(self):
            one.clear()

    def _postgres(self) -> None:
        self.connections = Gauge("aidb_postgres_connections", "Connections to the database.")
        self.connections_limit = Gauge(
            "aidb_postgres_connections_limit", "Connections that PostgreSQL takes."
        )
        self.size = Gauge("aidb_postgres_size_bytes", "Size of the database.")
        self.transactions = Counter(
            "aidb_postgres_transactions_total", "Transactions: committed or rolled_back.", "outcome"
        )
        self.deadlocks = Counter("aidb_postgres_deadlocks_total", "Deadlocks.")
        self.blocks = Counter(
            "aidb_postgres_blocks_total",
            "Blocks that were read: from the cache or the disk.",
            "place",
        )
        self.temporary = Counter(
            "aidb_postgres_temporary_bytes_total", "Written to temporary files by queries."
        )
        self.oldest = Gauge(
            "aidb_postgres_oldest_transaction_seconds",
            "Age of the oldest open transaction that the stack's role may see.",
        )
        self.replicas = Gauge("aidb_postgres_replicas", "Servers that follow this one.")
        self.replication_lag = Gauge(
            "aidb_postgres_replication_lag_seconds",
            "By how much the slowest replica is behind, where the role may see it.",
        )

    def _redis(self) -> None:
        self.redis_memory = Gauge(
            "aidb_redis_memory_bytes",
            "Memory that Redis uses: of the cache, or what is kept.",
            "store",
        )
        self.redis_limit = Gauge(
            "aidb_redis_memory_limit_bytes", "Memory that it may use; 0 is without bound.", "store"
        )
        self.redis_clients = Gauge("aidb_redis_clients", "Connections to Redis.", "store")
        self.evictions = Counter(
            "aidb_redis_evictions_total", "Keys that made room for others.", "store"
        )
        self.lookups = Counter(
            "aidb_redis_lookups_total", "Keys asked for: hit or miss.", "store", "result"
        )


def _instruments(holder: object) -> Iterator[Any]:
    yield from vars(holder).values()
