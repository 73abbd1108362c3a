"""What is known of a cross-encoder before its weights are at hand."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal, get_args

import orjson

from ai_stack.embedders.descriptions import ONNX_FILES
from ai_stack.errors import SettingsError

Score = Literal["logit", "sigmoid"]
TOKENS = 512


@dataclass(frozen=True, slots=True)
class CrossEncoder:
    """A model that scores pairs: from a hub's `repository`, or a local `folder`.

    `max_tokens` bounds a pair, special tokens included. `score` is what the model's one output
    becomes: the `logit` as it is, or its `sigmoid`, between 0 and 1. `files` are the ONNX files
    to try, first found first; `weights` the sha256 that the file must have.
    """

    name: str
    max_tokens: int = TOKENS
    score: Score = "logit"
    repository: str | None = None
    revision: str = "main"
    folder: str | None = None
    files: tuple[str, ...] = ONNX_FILES
    weights: str | None = None

    setting: ClassVar[str] = "AI_STACK_RERANK_DESCRIPTION"


# From the models' cards and file lists; none was run here, since no hub could be reached.
KNOWN = (
    CrossEncoder(
        "cross-encoder/ms-marco-MiniLM-L6-v2", repository="cross-encoder/ms-marco-MiniLM-L6-v2"
    ),
    CrossEncoder("Xenova/ms-marco-MiniLM-L-6-v2", repository="Xenova/ms-marco-MiniLM-L-6-v2"),
    CrossEncoder("BAAI/bge-reranker-base", repository="BAAI/bge-reranker-base"),
    CrossEncoder("Xenova/bge-reranker-base", repository="Xenova/bge-reranker-base"),
    CrossEncoder(
        "mixedbread-ai/mxbai-rerank-xsmall-v1", repository="mixedbread-ai/mxbai-rerank-xsmall-v1"
    ),
)


def describe(name: str, file: Path | None = None) -> CrossEncoder:
    """The file's description when it is of that name, a known one, or any hub repository's.

    A repository that nobody described is read as 512 tokens a pair and a logit. Raises
    SettingsError for a name that is none of these.
    """
    if file is not None and (own := read_description(file)).name == name:
        return own
    short = {known.name.partition("/")[2]: known for known in reversed(KNOWN)}
    by_name = {**short, **{known.name: known for known in KNOWN}}
    if name in by_name:
        return by_name[name]
    if name.count("/") == 1:
        return CrossEncoder(name, repository=name)
    raise SettingsError(
        f"AI_STACK_RERANK_URL: {name} is not described. Known are {', '.join(by_name)}; name a "
        f"hub's repository, or describe it in a JSON file named in {CrossEncoder.setting}."
    )


def read_description(file: Path) -> CrossEncoder:
    """The description in a JSON file with the fields of `CrossEncoder`."""
    try:
        given = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        raise _wrong(file, "cannot be read as JSON") from None
    if not isinstance(given, dict) or not {"repository", "folder"} & given.keys():
        raise _wrong(file, "needs name and one of repository and folder")
    if unknown := given.keys() - {field.name for field in fields(CrossEncoder)}:
        raise _wrong(file, f"has the unknown field {min(unknown)}")
    return _validated(file, given)


def _validated(file: Path, given: dict[str, object]) -> CrossEncoder:
    tokens = given.pop("max_tokens", TOKENS)
    if not isinstance(tokens, int) or not 8 <= tokens <= 1 << 17:
        raise _wrong(file, "needs a number of at least 8 for max_tokens")
    if given.get("score", "logit") not in get_args(Score):
        raise _wrong(file, "needs logit or sigmoid for score")
    files = given.pop("files", ONNX_FILES)
    if not isinstance(files, list | tuple) or not all(isinstance(name, str) for name in files):
        raise _wrong(file, "needs a list of names for files")
    if "name" not in given or any(not isinstance(value, str) for value in given.values()):
        raise _wrong(file, "needs a name, and text for every field but max_tokens and files")
    return CrossEncoder(**given, max_tokens=tokens, files=tuple(files))  # type: ignore[arg-type]


def _wrong(file: Path, what: str) -> SettingsError:
    return SettingsError(f"{CrossEncoder.setting}: {file} {what}.")
