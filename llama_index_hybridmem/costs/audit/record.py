"""What an audit log says of one answer; knows no file and no chain.

Whatever could lead back to the one who asked (names, texts, hashes of texts) stands in the record's `personal` part.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from llama_index_hybridmem.costs.audit.chain import canonical
from llama_index_hybridmem.costs.exporting import Finished, without_message

Redact = Callable[[str], str]

KINDS = frozenset({"query", "chat", "agent", "workflow"})
"""Outermost calls that answer somebody; retrieving, embedding and a bare language model do not."""

VERSIONS = ("version", "revision", "last_modified_date")
"""Metadata that says which version of a document a node is from; the last is LlamaIndex's file readers'."""

_OURS = "hybridmem"


def is_answer(finished: Finished) -> bool:
    """Whether somebody got an answer: half of one, too, and one that is no text but an object; a workflow's is text."""
    trace = finished.trace
    came = finished.text is not None or (trace.status == "ok" and trace.kind != "workflow")
    return trace.kind in KINDS and came and trace.status != "never_consumed"


def answer_fields(
    finished: Finished, *, at: float, salt: str, texts: bool = False, redact: Redact | None = None
) -> dict[str, Any]:
    """Make the record of an answer, to be sealed.

    Args:
        finished: the query; see `is_answer`.
        at: Unix seconds of now.
        salt: random, so that nobody can guess an erased personal part by its hash.
        texts: keep question, answer and cited sentences as texts, not only their hashes, and why stores were missing
            in full.
        redact: goes over every text before it is kept or hashed; a hash of the whole text would give away what was
            masked in it.
    """
    trace, nodes = finished.trace, list(source_nodes(finished.response))
    cited = _citations(finished.response)
    return {
        "kind": "answer",
        "at": round(at, 3),
        "id": trace.id,
        "call": trace.kind,
        "started": trace.started,
        "run": trace.run,
        "phase": trace.phase,
        "status": trace.status,
        "error": None if trace.error is None else trace.error.partition(":")[0],
        "route": trace.route,
        "route_source": trace.route_source,
        "answer": trace.answer,
        "degraded": [without_message(reason) for reason in trace.degraded],
        "sources": [_source(node, score) for node, score in nodes],
        "calls": [_call(call) for call in trace.calls],
        "cited": None if cited is None else _cited(cited, [str(node.node_id) for node, _ in nodes]),
        "redacted": None if redact is None else getattr(redact, "__qualname__", type(redact).__qualname__),
        "personal": _personal(finished, cited, salt, texts, redact or str),
    }


def source_nodes(response: Any) -> Iterator[tuple[Any, float | None]]:
    """Give an answer's nodes with their scores, each once: its own, or those that an agent's tools brought it."""
    found = getattr(response, "source_nodes", None)
    if found is None:
        outputs = (getattr(call, "tool_output", None) for call in getattr(response, "tool_calls", None) or ())
        found = [
            each for output in outputs for each in getattr(getattr(output, "raw_output", None), "source_nodes", ())
        ]
    seen = set()
    for each in found:
        if each.node.node_id not in seen:
            seen.add(each.node.node_id)
            yield each.node, each.score


def prompt_text(prompt: Any, redact: Redact = str) -> str | None:
    """Write a prompt in the one way that is hashed: a text as it is, messages as JSON lists of role and blocks."""
    if prompt is None or isinstance(prompt, str):
        return None if prompt is None else redact(prompt)
    return canonical([_message(message, redact) for message in prompt]).decode()


def digest(text: str | None) -> str | None:
    """Hash a text; None for none."""
    return None if text is None else hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _message(message: Any, redact: Redact) -> list[str]:
    texts = [text if isinstance(text := getattr(block, "text", None), str) else repr(block) for block in message.blocks]
    return [str(getattr(message.role, "value", message.role)), *map(redact, texts)]


def _source(node: Any, score: float | None) -> dict[str, Any]:
    """Name a node and its version."""
    parent = node.source_node  # not node.hash: it covers the metadata, where a hybrid retriever notes ranks and scores
    return {
        "node_id": str(node.node_id),
        "ref_doc_id": node.ref_doc_id,
        "text_sha256": digest(node.get_content()),
        "document_hash": None if parent is None else parent.hash,
        "version": {name: str(node.metadata[name]) for name in VERSIONS if node.metadata.get(name) is not None},
        "score": None if score is None or not math.isfinite(score) else float(score),
    }


def _call(call: Any) -> dict[str, Any]:
    names = ("kind", "model", "provider", "adapter", "status")
    usage = None if call.usage is None else asdict(call.usage)
    return {**{name: getattr(call, name) for name in names}, "usage": usage}


def _citations(response: Any) -> Mapping[str, Any] | None:
    """The report that `QueryRecord` put on a response of this package's engines."""
    record = (getattr(response, "metadata", None) or {}).get(_OURS)
    found = record.get("citations") if isinstance(record, Mapping) else None
    return found if isinstance(found, Mapping) else None


def _cited(cited: Mapping[str, Any], node_ids: Sequence[str]) -> dict[str, Any]:
    spans = [
        {
            "number": each["number"],
            "node_id": node_ids[each["number"] - 1] if 1 <= each["number"] <= len(node_ids) else None,
            "supported": each["supported"],
            "share": each["share"],
        }
        for each in cited["citations"]
    ]
    return {"valid": cited["valid"], "spans": spans, "uncited": len(cited["uncited"])}


def _personal(
    finished: Finished, cited: Mapping[str, Any] | None, salt: str, texts: bool, redact: Redact
) -> dict[str, Any]:
    trace = finished.trace
    question = None if finished.question is None else redact(finished.question)
    answer = None if finished.text is None else redact(finished.text)
    prompts = [prompt_text(prompt, redact) for prompt in finished.prompts]
    spans = [] if cited is None else [redact(each["sentence"]) for each in cited["citations"]]
    kept = {
        "salt": salt,
        "tenant": trace.tenant,
        "user": trace.user,
        "question_sha256": digest(question),
        "answer_sha256": digest(answer),
        "prompt_sha256": [digest(prompt) for prompt in prompts],
        "cited_sha256": [digest(span) for span in spans],
    }
    degraded = [redact(reason) for reason in trace.degraded]
    return {**kept, "question": question, "answer": answer, "cited": spans, "degraded": degraded} if texts else kept
