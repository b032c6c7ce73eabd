"""Who is being served: a tenant set for a context, and the adapters it may use; knows no models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from llama_index_hybridmem.errors import UnknownAdapterError, UnknownTenantError
from llama_index_hybridmem.llms.adapters.names import BASE
from llama_index_hybridmem.tags import tagged

_TENANT: ContextVar[str | None] = ContextVar("hybridmem_tenant", default=None)

Tenants = Mapping[str, Sequence[str]]
"""Tenant to the names of its adapters, its own first; empty for the base."""


@contextmanager
def tenant(name: str | None) -> Iterator[None]:
    """Serve a tenant within this block: every `LoraHuggingFaceLLM` with `tenants` takes the tenant's adapter.

    The tenant is a tag of LlamaIndex's instrumentation, too, so traces of the block's queries name it.

    Set it where the request comes in. Threads and tasks that LlamaIndex starts inherit it; a thread pool of your own
    does not, unless it copies the context.

    Args:
        name: as in `tenants`; None for nobody.
    """
    before = _TENANT.set(name)
    try:
        with tagged(tenant=name):
            yield
    finally:
        _TENANT.reset(before)


def current_tenant() -> str | None:
    """The tenant of this context."""
    return _TENANT.get()


def adapter_for(asked: str | None, tenants: Tenants | None) -> str | None:
    """The adapter that answers in this context.

    Args:
        asked: a reference, by the call or the model; "base" for none; None for the tenant's own.
        tenants: None where there are none: then whatever was asked for.

    Raises:
        UnknownTenantError: a tenant is set that is not among them.
        UnknownAdapterError: the adapter is another tenant's. Its name is not told apart from one that does not exist.
    """
    if asked == BASE:
        return None
    if tenants is None:
        return asked
    name = current_tenant()
    if name is not None and name not in tenants:
        raise UnknownTenantError(name)
    own = own_adapters(tenants)
    if asked is None:
        return own[0] if own else None
    adapter = _name(asked)
    private = {_name(each) for adapters in tenants.values() for each in adapters}
    if adapter in private and adapter not in {_name(each) for each in own}:
        raise UnknownAdapterError(asked, own)
    return asked


def own_adapters(tenants: Tenants) -> list[str]:
    """The adapters of this context's tenant, all that it is told of; none for nobody, or an unknown tenant."""
    name = current_tenant()
    return [] if name is None else list(tenants.get(name, ()))


def open_to_all(names: Sequence[str], tenants: Tenants) -> list[str]:
    """The adapters that stand in no tenant's list."""
    private = {_name(each) for adapters in tenants.values() for each in adapters}
    return [name for name in names if name not in private]


def _name(reference: str) -> str:
    """An adapter's name without version and alias."""
    return reference.partition("@")[0]
