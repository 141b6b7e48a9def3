"""The models a stub lists, and embeddings."""

import base64
import random
import struct
import zlib
from typing import Any
from urllib.parse import parse_qs

from proxy.stub.answers import Answer, json_answer
from proxy.stub.ask import Ask
from proxy.stub.text import count_words
from proxy.words import Dialect

# Listed where the stub knows every model.
LISTED = {
    Dialect.OPENAI: ("gpt-4o", "gpt-4o-mini", "text-embedding-3-small"),
    Dialect.MISTRAL: ("mistral-small-latest", "open-mistral-7b", "codestral-latest", "mistral-embed"),
}
CREATED = 1_735_689_600  # Unix seconds; models do not change while they are looked at
DIMENSIONS = 8  # where the request asks for none


def models_answer(models: tuple[str, ...] | None, dialect: Dialect) -> Answer:
    """Answer `GET /v1/models`."""
    names = LISTED[dialect] if models is None else models
    return json_answer({"object": "list", "data": [_card(name, dialect) for name in names]})


def model_answer(name: str, dialect: Dialect) -> Answer:
    """Answer `GET /v1/models/{name}`."""
    return json_answer(_card(name, dialect))


def _card(name: str, dialect: Dialect) -> dict[str, Any]:
    tuned = name.startswith("ft:")
    if dialect is Dialect.OPENAI:
        owner = "stub-org" if tuned else "system"
        return {"id": name, "object": "model", "created": CREATED, "owned_by": owner}
    capabilities = {
        "completion_chat": "embed" not in name,
        "completion_fim": "codestral" in name,
        "function_calling": "embed" not in name,
        "fine_tuning": not tuned,
        "vision": False,
    }
    card: dict[str, Any] = {
        "id": name,
        "object": "model",
        "created": CREATED,
        "owned_by": "stub-org" if tuned else "mistralai",
        "capabilities": capabilities,
        "name": name,
        "description": None,
        "max_context_length": 32768,
        "aliases": [],
        "deprecation": None,
        "default_model_temperature": 0.3,
        "type": "fine-tuned" if tuned else "base",
    }
    if tuned:
        card |= {"job": "00000000-0000-4000-8000-000000000001", "root": name.split(":")[1], "archived": False}
    return card


def jobs_answer(models: tuple[str, ...] | None, query: str) -> Answer:
    """Answer `GET /v1/fine_tuning/jobs`, of Mistral's API: one finished job for each `ft:` model the stub knows.

    Its suffix is what stands after the base model: `ft:open-mistral-7b:qa_agent:20251031:ecc3829c`.
    """
    asked = parse_qs(query)
    jobs = [_job(number, name) for number, name in enumerate(models or ()) if name.startswith("ft:")]
    if asked.get("status", ["SUCCESS"]) != ["SUCCESS"]:
        jobs = []
    size = int(asked.get("page_size", ["100"])[0])
    start = int(asked.get("page", ["0"])[0]) * size
    return json_answer({"object": "list", "total": len(jobs), "data": jobs[start : start + size]})


def _job(number: int, name: str) -> dict[str, Any]:
    _, base, suffix, *_ = [*name.split(":"), "", ""]
    return {
        "id": f"00000000-0000-4000-8000-{number:012d}",
        "object": "job",
        "job_type": "completion",
        "auto_start": True,
        "model": base,
        "status": "SUCCESS",
        "created_at": CREATED + number,
        "modified_at": CREATED + number,
        "training_files": ["00000000-0000-4000-8000-0000000f11e5"],
        "validation_files": [],
        "hyperparameters": {"training_steps": 10, "learning_rate": 0.0001},
        "fine_tuned_model": name,
        "suffix": suffix or None,
        "integrations": [],
        "trained_tokens": 1000,
        "metadata": None,
    }


def embeddings_answer(ask: Ask, dialect: Dialect) -> Answer:
    """Answer `POST /v1/embeddings`: the same vector for the same text, each number within ±1."""
    given = ask.body.get("input")
    # one text, many texts, one text in tokens, or many of them
    many = isinstance(given, list) and not all(isinstance(each, int) for each in given)
    inputs: list[object] = list(given) if many and isinstance(given, list) else [given]
    size = next((n for key in ("dimensions", "output_dimension") if isinstance(n := ask.body.get(key), int)), 0)
    size = min(size, 4096) if size > 0 else DIMENSIONS
    packed = ask.body.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(str(each), size, packed)}
        for index, each in enumerate(inputs)
    ]
    tokens = sum(len(each) if isinstance(each, list) else count_words([str(each)]) for each in inputs)
    counts: dict[str, Any] = {"prompt_tokens": tokens, "total_tokens": tokens}
    body: dict[str, Any] = {"object": "list", "data": data, "model": ask.model, "usage": counts}
    if dialect is Dialect.MISTRAL:
        body["id"] = f"embd-stub-{zlib.crc32(str(inputs).encode('utf-8', 'replace')):08x}"
        counts["completion_tokens"] = 0
    return json_answer(body)


def _vector(text: str, size: int, packed: bool) -> list[float] | str:
    """Return an embedding; packed: little-endian 32-bit floats in base64, as OpenAI's SDK asks for."""
    source = random.Random(text)
    numbers = [round(source.uniform(-1, 1), 6) for _ in range(size)]
    return base64.b64encode(struct.pack(f"<{size}f", *numbers)).decode() if packed else numbers
