"""What is known of a model before its weights are at hand."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal, get_args

import orjson

from ai_stack.errors import SettingsError
from ai_stack.models.embedding import EmbeddingModel

Pooling = Literal["mean", "cls", "last"]
ONNX_FILES = ("onnx/model_quantized.onnx", "onnx/model_int8.onnx", "onnx/model.onnx", "model.onnx")


@dataclass(frozen=True, slots=True)
class Description:
    """A model and where it comes from: a hub's `repository`, a local `folder`, or built in.

    `files` are the ONNX files to try, first found first; `weights` the sha256 that the file
    must have. `max_tokens` counts the special tokens and the prefix.
    """

    name: str
    dimensions: int
    max_tokens: int
    query_prefix: str = ""
    passage_prefix: str = ""
    pooling: Pooling = "mean"
    repository: str | None = None
    revision: str = "main"
    folder: str | None = None
    files: tuple[str, ...] = ONNX_FILES
    weights: str | None = None

    setting: ClassVar[str] = "AI_STACK_EMBEDDING_DESCRIPTION"

    def model(self, weights: str) -> EmbeddingModel:
        """The model with the weights (sha256) that were found."""
        return EmbeddingModel(
            name=self.name,
            weights=weights,
            dimensions=self.dimensions,
            max_tokens=self.max_tokens,
            query_prefix=self.query_prefix,
            passage_prefix=self.passage_prefix,
            pooling=self.pooling,
        )


MINILM = Description(
    "all-MiniLM-L6-v2",
    384,
    256,
    weights="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
BGE_QUERY = "Represent this sentence for searching relevant passages: "
E5 = ("query: ", "passage: ")
NOMIC = ("search_query: ", "search_document: ")
KNOWN = (
    MINILM,
    Description(
        "bge-small-en-v1.5",
        384,
        512,
        BGE_QUERY,
        pooling="cls",
        repository="Xenova/bge-small-en-v1.5",
    ),
    Description(
        "bge-base-en-v1.5", 768, 512, BGE_QUERY, pooling="cls", repository="Xenova/bge-base-en-v1.5"
    ),
    Description("e5-small-v2", 384, 512, *E5, repository="Xenova/e5-small-v2"),
    Description("multilingual-e5-small", 384, 512, *E5, repository="Xenova/multilingual-e5-small"),
    Description("gte-small", 384, 512, repository="Xenova/gte-small"),
    Description(
        "nomic-embed-text-v1.5", 768, 8192, *NOMIC, repository="nomic-ai/nomic-embed-text-v1.5"
    ),
)


def find(name: str, file: Path | None = None) -> Description | None:
    """The description of `name`: the file's, when it is of that name, else a known one."""
    if file is not None and (own := read_description(file)).name == name:
        return own
    return next((known for known in KNOWN if name in (known.name, known.repository)), None)


def describe(name: str, file: Path | None = None) -> Description:
    """The same; raises SettingsError when neither knows the model."""
    if (found := find(name, file)) is not None:
        return found
    names = ", ".join(known.name for known in KNOWN)
    raise SettingsError(
        f"AI_STACK_EMBEDDING_MODEL: {name} is not described. Known are {names}; describe "
        "another in a JSON file and name the file in AI_STACK_EMBEDDING_DESCRIPTION."
    )


def read_description(file: Path) -> Description:
    """The description in a JSON file with the fields of `Description`."""
    try:
        given = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        raise _wrong(file, "cannot be read as JSON") from None
    known = {field.name for field in fields(Description)}
    if not isinstance(given, dict) or not {"name", "dimensions", "max_tokens"} <= given.keys():
        raise _wrong(file, "needs name, dimensions and max_tokens")
    if unknown := given.keys() - known:
        raise _wrong(file, f"has the unknown field {min(unknown)}")
    return _validated(file, given)


def _validated(file: Path, given: dict[str, object]) -> Description:
    for field in ("dimensions", "max_tokens"):
        number = given[field]
        if not isinstance(number, int) or not 8 <= number <= 1 << 17:
            raise _wrong(file, f"needs a number of at least 8 for {field}")
    if given.get("pooling", "mean") not in get_args(Pooling):
        raise _wrong(file, "needs mean, cls or last for pooling")
    files = given.pop("files", ONNX_FILES)
    if not isinstance(files, list | tuple) or not all(isinstance(name, str) for name in files):
        raise _wrong(file, "needs a list of names for files")
    if any(
        not isinstance(v, str) for k, v in given.items() if k not in ("dimensions", "max_tokens")
    ):
        raise _wrong(file, "needs text for every field but dimensions, max_tokens and files")
    return Description(**given, files=tuple(files))  # type: ignore[arg-type]


def _wrong(file: Path, what: str) -> SettingsError:
    return SettingsError(f"{Description.setting}: {file} {what}.")
