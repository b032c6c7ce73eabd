"""What a node looks like as a point of the engine: its id, payload and terms; knows no search and opens nothing.

The payload is the one that LlamaIndex's Qdrant store writes, so that points can be copied to a server and read there as
they are. Beside it stand keys of our own:

    _hm_node_id   the node's id, which need not be a UUID
    _hm_length    how many BM25 terms the node has
    _hm_terms     its metadata as hashed terms, one for each field that is there and one for each (field, element)
    _hm_weighed   on a server: what its keyword vector was weighed with, so that every process goes on with the same
    _hm_tenant    on a server, where tenants share a collection: whose it is

One keyword index over ``_hm_terms`` answers every comparison for equality, on every field, exactly as ``filters``
defines it: kinds are told apart, a key may hold any character, numbers of any size compare as Python compares them,
and metadata under a name that LlamaIndex uses for itself (``doc_id``) is not lost. The engine's own matching has other
rules at each of these points, and would need an index for each field.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

from ..errors import ConfigurationError, StoreDamagedError
from ..filters import Scalar, elements, kind, visible_fields

DENSE, SPARSE, WINDOWS = "text-dense", "text-sparse-new", "text-windows"
NODE_ID, LENGTH, TERMS = "_hm_node_id", "_hm_length", "_hm_terms"
WEIGHED, TENANT = "_hm_weighed", "_hm_tenant"
CONTENT, SOURCE = "_node_content", "ref_doc_id"
_BESIDE = frozenset({NODE_ID, LENGTH, TERMS, WEIGHED, TENANT})
OURS = _BESIDE | {CONTENT, "_node_type", "document_id", "doc_id", SOURCE}

_DERIVED = 8  # the UUID version for makers' own schemes (RFC 9562): tells a derived point id from a node's own


def point_id(node_id: str, tenant: str | None = None) -> UUID:
    """The point of a node: a UUID in its usual spelling is its own, any other id is hashed to one of version 8.

    Where tenants share a collection every id is hashed, together with the tenant's name: nobody can name a node so that
    it takes the place of another tenant's.
    """
    try:
        own = UUID(node_id) if tenant is None else None
    except ValueError:
        own = None
    if own is not None and str(own) == node_id and own.version != _DERIVED:
        return own
    parts = ("node", node_id) if tenant is None else ("tenant", tenant, node_id)
    hashed = int.from_bytes(_digest(*parts, size=16), "big")
    return UUID(int=hashed & ~(0xF << 76) & ~(0x3 << 62) | _DERIVED << 76 | 0x2 << 62)


def own_node_id(point: UUID) -> str | None:
    """The node id that a point's id spells out; None where it was derived and only the payload knows."""
    return None if point.version == _DERIVED else str(point)


def payload(node: BaseNode, length: int) -> dict[str, Any]:
    """A node as payload, text included.

    Args:
        node: left as it is.
        length: its number of BM25 terms.

    Raises:
        ConfigurationError: its text or metadata cannot be written as JSON.
    """
    try:
        written = node_to_metadata_dict(node, remove_text=False, flat_metadata=False)
        written[CONTENT].encode("utf-8")  # metadata may hold half a surrogate pair
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"node {node.node_id} cannot be stored: {error}") from error
    own = json.loads(written[CONTENT])["metadata"]
    # Whose a node is and what it was weighed with is ours to say, not its metadata's; the content keeps that whole.
    fields = {key: _storable(value) for key, value in written.items() if key not in _BESIDE}
    return {**fields, NODE_ID: node.node_id, LENGTH: length, TERMS: terms(own, node.ref_doc_id)}


def to_node(stored: Mapping[str, Any]) -> BaseNode:
    """The node of a payload.

    Raises:
        StoreDamagedError: the payload is not one of ours.
    """
    try:
        return metadata_dict_to_node(dict(stored))
    except (ValueError, TypeError, KeyError) as error:
        raise StoreDamagedError(f"point of node {stored.get(NODE_ID)} holds no readable node: {error}") from error


def fields_of(stored: Mapping[str, Any]) -> dict[str, object]:
    """What filters see of a stored node, from its content and source."""
    source = stored[SOURCE]
    return visible_fields(json.loads(stored[CONTENT])["metadata"], None if source == "None" else source)


def terms(metadata: Mapping[str, object], ref_doc_id: str | None) -> list[str]:
    """The terms of a node, sorted."""
    found = set() if ref_doc_id is None else {source_term(ref_doc_id)}
    # LlamaIndex writes "None" for no document, so a document of that name is none to a filter either.
    for key, field in visible_fields(metadata, None if ref_doc_id == "None" else ref_doc_id).items():
        scalars = elements(field)
        found.update(term(key, scalar) for scalar in scalars)
        found.update(extreme_term(key, sign) for scalar in scalars if (sign := extreme(scalar)))
        if scalars:
            found.add(presence_term(key))
    return sorted(found)


def term(key: str, scalar: Scalar) -> str:
    """The term for one element of a field; equal for 1 and 1.0, different for 1, True and "1"."""
    if isinstance(scalar, float) and scalar.is_integer():
        scalar = int(scalar)
    return _hashed("is", key, kind(scalar), repr(scalar))


def presence_term(key: str) -> str:
    """The term for a field that has elements."""
    return _hashed("has", key)


def extreme_term(key: str, sign: int) -> str:
    """The term for a field with a number that the engine's floats cannot hold; sign is 1 or -1."""
    return _hashed("extreme", key, str(sign))


def source_term(ref_doc_id: str) -> str:
    """The term for the document that a node came from."""
    return _hashed("source", ref_doc_id)


def extreme(scalar: Scalar) -> int:
    """1 or -1 for a number that is infinite as a float, else 0."""
    if kind(scalar) != "number":
        return 0
    try:
        return 0 if math.isfinite(float(scalar)) else (1 if scalar > 0 else -1)  # type: ignore[operator]  # a number
    except OverflowError:
        return 1 if scalar > 0 else -1  # type: ignore[operator]  # a number


def _storable(value: Any) -> Any:
    """JSON that the engine takes: no integer beyond 64 bits; the node's content keeps them whole."""
    if isinstance(value, dict):
        return {key: _storable(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_storable(member) for member in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return None if extreme(value) else float(value)
    return value


def _hashed(*parts: str) -> str:
    return _digest(*parts, size=12).hex()


def _digest(*parts: str, size: int) -> bytes:
    written = ascii(parts).encode("ascii")  # unambiguous whatever the parts hold, the same under every Python
    return hashlib.blake2b(written, digest_size=size, person=b"hybridmem").digest()
