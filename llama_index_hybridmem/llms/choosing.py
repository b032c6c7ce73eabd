"""Which adapter answers a call: the call's, the view's or the tenant's; knows no model, here or on a server."""

from __future__ import annotations

from typing import Any, Literal

from llama_index.core.bridge.pydantic import Field
from llama_index.core.llms.function_calling import FunctionCallingLLM
from typing_extensions import Self

from llama_index_hybridmem.errors import AdapterError
from llama_index_hybridmem.llms.tenancy import adapter_for


class ChoosingLLM(FunctionCallingLLM):
    """The fields of an LLM with adapters that say which one answers."""

    adapter: str | None = Field(default=None, description="Answers where a call names none.")
    tenants: dict[str, list[str]] | None = Field(default=None, description="Adapters by tenant, its own first.")
    on_missing_adapter: Literal["raise", "base"] = Field(default="raise", description="Where an adapter is missing.")

    def __init__(self, **fields: Any) -> None:  # as in FunctionCallingLLM, for type checkers
        super().__init__(**fields)

    def with_adapter(self, adapter: str | None) -> Self:
        """A view that answers with an adapter; it shares everything else, and costs next to nothing.

        Args:
            adapter: a reference; "base" for the base; None for the base or the tenant's own.
        """
        return self.model_copy(update={"adapter": adapter})

    def _chosen(self, asked: str | None) -> str | None:
        """The adapter that answers here: the call's, this view's, or the tenant's."""
        return adapter_for(asked or self.adapter, self.tenants)

    def _shown(self) -> str | None:
        """The adapter that answers here, for metadata, which must not fail: engines are built outside of any tenant."""
        try:
            return self._chosen(None)
        except AdapterError:
            return self.adapter
