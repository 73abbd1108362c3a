"""Settings of embeddings, search and imports."""

from pathlib import Path

from pydantic import Field, SecretStr

from ai_stack.settings.part import Part, named


class Retrieval(Part):
    """How documents are read, embedded and found."""

    embedder_url: SecretStr = Field(
        SecretStr("onnx:"),
        description="onnx: (supervised), or the http(s)://host/v1 of an OpenAI-compatible server.",
    )
    embedder_api_key: SecretStr | None = Field(None, description="Key of that server.")
    embedder_threads: int = Field(
        0, ge=0, le=256, description="Threads of the supervised embedder; 0: one a core."
    )
    embedding_model: str = Field(
        "all-MiniLM-L6-v2",
        description="Model for new embeddings: a built-in name or a hub repository with ONNX.",
    )
    embedding_description: Path | None = Field(
        None, description="JSON file that describes a model which the stack does not know."
    )
    huggingface_token: SecretStr | None = Field(
        None, validation_alias=named("HUGGING_FACE_HUB_TOKEN"), description="Token for the hub."
    )
    hub_url: str = Field("https://huggingface.co", description="Hub that models come from.")

    rerank_url: str | None = Field(
        None,
        description="http(s)://…/v1/rerank of an engine, or cross-encoder: and the name of a "
        "model that the supervised embedder runs: a built-in one or a hub repository with ONNX.",
    )
    rerank_description: Path | None = Field(
        None, description="JSON file that describes a cross-encoder which the stack does not know."
    )
    hybrid_weight: float = Field(
        0.4, ge=0, le=1, description="Weight of keywords in hybrid search; the meaning's is 1 - w."
    )
    search_cache_ttl_s: int = Field(
        300, ge=0, description="Seconds that a search's answer is kept; 0 keeps none."
    )
    import_max_file_bytes: int = Field(
        100 << 20, ge=1, description="Largest file that an import accepts."
    )
    import_max_total_bytes: int = Field(
        4 << 30, ge=1, description="Largest import request, all its files together."
    )
    import_allow_private_urls: bool = Field(
        False, description="Import URLs whose address is private, loopback or link-local."
    )
    import_workers: int = Field(
        0, ge=0, le=256, description="Processes that read files; 0: one a core."
    )
    import_timeout_s: float = Field(60, gt=0, description="Longest time to read one file.")
    import_memory_bytes: int = Field(
        1 << 30, ge=64 << 20, description="Memory that reading one file may take."
    )
