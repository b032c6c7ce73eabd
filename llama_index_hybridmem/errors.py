"""Every exception this package raises, drawn as a tree; knows nothing of the code that raises them.

HybridMemoryError
├── MissingExtraError (also ImportError)      an optional library is not installed
├── ConfigurationError (also ValueError)      an argument, file or setting cannot be used as given
│   ├── FilterError                           a metadata filter is malformed or uses an unknown operator
│   ├── UnknownRouteError                     a route or store name that the engine does not have
│   ├── NoLLMError                            no language model where one is needed
│   └── IngestError                           an input file or document cannot be read
├── AdapterError                              an adapter; no ValueError, which LlamaIndex's synthesizers swallow
│   ├── AdapterNameError                      a name or reference that no adapter can have
│   ├── UnknownAdapterError                   no adapter of that name, version or alias
│   ├── UnknownTenantError                    a tenant that the model does not serve
│   └── AdapterRefusedError                   an adapter's files failed a check: file, key, what to do
├── StoreError                                a store, on disk or on a server
│   ├── StoreUnavailableError                 its server is down, frozen or too slow; try again later
│   ├── StoreAccessError                      its server refuses us: password, role, database
│   ├── StoreLockedError                      another process owns it
│   ├── StoreClosedError                      used after close()
│   ├── StoreDamagedError                     its files cannot be read
│   ├── StoreMismatchError                    built with another encoder, dimension or version
│   └── InvalidVectorError (also ValueError)  a vector with NaN, infinity or the wrong length
├── EncoderError                              the embedding model failed or its files are wrong
├── RetrievalError                            a query to the stores
│   ├── BranchTimeoutError                    a store missed its deadline
│   ├── BreakerOpenError                      a store was skipped: its calls hang, were late or found no server
│   ├── CypherRefusedError                    a query that a language model wrote is not certain to read only
│   └── AllStoresFailedError                  no store answered; carries every cause
├── GenerationError                           the language model could not answer
│   ├── ContextOverflowError                  prompt and answer do not fit into the model's window
│   ├── EngineBusyError                       the queue of requests stayed full
│   ├── EngineClosedError                     the engine was used after close()
│   ├── CancelledGenerationError              somebody cancelled the request
│   └── RemoteModelError                      a model server refused, or failed the conformance probe
├── TrainingError                             a training run failed: the loss, the memory, a checkpoint
├── BudgetError                               a call was not made because its budget could not allow it
│   └── BudgetExceededError                   it could have exceeded a limit
└── NotInSourcesError                         the sources do not answer (only under ``no_answer="raise"``)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

DISTRIBUTION = "llama-index-hybridmem"


def told(error: BaseException) -> str:
    """Give an error as "Type: message", on one line, for messages, reports and traces; without credentials of URLs."""
    message = re.sub(r"://\S*@", "://***@", " ".join(str(error).split()))
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


class HybridMemoryError(Exception):
    """Base of everything this package raises on purpose."""


class MissingExtraError(HybridMemoryError, ImportError):
    """An optional library is missing; the message holds the exact pip line.

    Attributes:
        feature: what the user asked for.
        extra: the extra of this distribution that brings the library.
        further: more pip lines that it takes, each a command.
    """

    def __init__(self, feature: str, extra: str, *further: str) -> None:
        self.feature = feature
        self.extra = extra
        self.further = further
        lines = " && ".join([f'pip install "{DISTRIBUTION}[{extra}]"', *further])
        super().__init__(f"{feature} needs the extra '{extra}': {lines}")


class ConfigurationError(HybridMemoryError, ValueError):
    """An argument, file or setting cannot be used as given."""


class FilterError(ConfigurationError):
    """A metadata filter is malformed or uses an operator we do not know."""


class UnknownRouteError(ConfigurationError):
    """A route or store name that the engine does not have.

    Attributes:
        name: what was asked for.
        known: the names there are.
    """

    def __init__(self, name: str, known: list[str]) -> None:
        self.name = name
        self.known = known
        super().__init__(f"unknown name {name!r}; known: {', '.join(known) or 'none'}")


class NoLLMError(ConfigurationError):
    """No language model where one is needed."""


class IngestError(ConfigurationError):
    """An input file or document cannot be read; the message names the place."""


class AdapterError(HybridMemoryError):
    """An adapter cannot be had or used as asked.

    On purpose no `ValueError`: LlamaIndex's refine loop takes one for a bad answer of the model, and a query engine
    would say "Empty Response" in its place.
    """


class UnknownTenantError(AdapterError):
    """A tenant that the model does not serve.

    Attributes:
        tenant: who was set.
    """

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        super().__init__(f"tenant {tenant!r} is not among the tenants of this model")


class AdapterNameError(AdapterError):
    """A name, alias or reference that no adapter can have."""


class UnknownAdapterError(AdapterError):
    """No adapter of that name, version or alias.

    Attributes:
        reference: what was asked for.
        known: the names there are.
    """

    def __init__(self, reference: str, known: list[str]) -> None:
        self.reference = reference
        self.known = known
        super().__init__(f"no adapter {reference!r}; known: {', '.join(known) or 'none'}")


class AdapterRefusedError(AdapterError):
    """An adapter's files failed a check; nothing of it has touched the model.

    Attributes:
        place: the file.
        key: the setting or tensor in it, None when it is the file as a whole.
        problem: what is wrong with it.
        advice: what to do.
    """

    def __init__(self, place: Path | str, key: str | None, problem: str, advice: str) -> None:
        self.place = place
        self.key = key
        self.problem = problem
        self.advice = advice
        where = f"{place}" if key is None else f"{place}, {key}"
        super().__init__(f"{where}: {problem}. {advice}")


class StoreError(HybridMemoryError):
    """A store, on disk or on a server, could not do what was asked."""


class StoreUnavailableError(StoreError):
    """A store's server is down, frozen, unreachable or too slow; the same call may succeed later."""


class StoreAccessError(StoreError):
    """A store's server refuses us: wrong password, missing role, unknown database."""


class StoreLockedError(StoreError):
    """Another process owns the store.

    Attributes:
        path: the store's folder.
        pid: the owner's process id, None when it could not be read.
    """

    def __init__(self, path: Path, pid: int | None) -> None:
        self.path = path
        self.pid = pid
        owner = f"process {pid}" if pid is not None else "another process"
        super().__init__(
            f"{path} is owned by {owner}; one process owns an embedded store at a time. Close it there, "
            "work on a copy of the folder, or move to a server that many processes can share."
        )


class StoreClosedError(StoreError):
    """The store was used after close()."""


class StoreDamagedError(StoreError):
    """The store's files cannot be read."""


class StoreMismatchError(StoreError):
    """The store was built with another encoder, dimension or version."""


class InvalidVectorError(StoreError, ValueError):
    """A vector with NaN, infinity or the wrong length."""


class EncoderError(HybridMemoryError):
    """The embedding model failed or its files are not what they should be."""


class RetrievalError(HybridMemoryError):
    """A query to the stores failed."""


class BranchTimeoutError(RetrievalError):
    """A store missed its deadline.

    Attributes:
        store: the store's name.
        deadline_s: the seconds it had.
    """

    def __init__(self, store: str, deadline_s: float) -> None:
        self.store = store
        self.deadline_s = deadline_s
        super().__init__(f"{store} did not answer within {deadline_s:g} s")


class BreakerOpenError(RetrievalError):
    """A store was skipped because its earlier calls hang, were late or found no server.

    Attributes:
        store: the store's name.
        hanging: how many calls have not come back.
        misses: how many calls in a row were late or found no server.
        retry_in_s: seconds until it is tried again; 0 while one call is trying.
        cause: the last miss, as text.
    """

    def __init__(
        self, store: str, hanging: int, misses: int = 0, retry_in_s: float = 0.0, cause: str | None = None
    ) -> None:
        self.store = store
        self.hanging = hanging
        self.misses = misses
        self.retry_in_s = retry_in_s
        self.cause = cause
        missed = (
            f"{hanging} earlier calls have not come back" if hanging >= misses else f"its last {misses} calls missed"
        )
        again = f"next try in {retry_in_s:.1f} s" if retry_in_s else "one call is trying it again"
        super().__init__(f"{store} skipped: {missed}; {again}" + (f"; last miss: {cause}" if cause else ""))


class CypherRefusedError(RetrievalError):
    """A query that a language model wrote is not certain to read only, and was not run.

    Attributes:
        cypher: the query.
        problem: what is wrong with it.
    """

    def __init__(self, cypher: str, problem: str) -> None:
        self.cypher = cypher
        self.problem = problem
        super().__init__(f"refused {cypher!r:.400}: {problem}")


class AllStoresFailedError(RetrievalError):
    """No store answered.

    Attributes:
        causes: store name to the exception it ended with.
    """

    def __init__(self, causes: Mapping[str, BaseException]) -> None:
        self.causes = dict(causes)
        listed = "; ".join(f"{name}: {told(error)}" for name, error in self.causes.items())
        super().__init__(f"no store answered: {listed}")


class GenerationError(HybridMemoryError):
    """The language model could not answer."""


class ContextOverflowError(GenerationError):
    """Prompt and answer do not fit into the model's window.

    Attributes:
        prompt_tokens: tokens of the prompt.
        new_tokens: tokens kept for the answer.
        window: tokens that the model reads and writes together.
    """

    def __init__(self, prompt_tokens: int, new_tokens: int, window: int) -> None:
        self.prompt_tokens = prompt_tokens
        self.new_tokens = new_tokens
        self.window = window
        super().__init__(
            f"{prompt_tokens} tokens of prompt and {new_tokens} for the answer do not fit into {window}: shorten the "
            "prompt, lower max_new_tokens, or let it be cut with overflow='middle' or 'start'"
        )


class EngineBusyError(GenerationError):
    """The queue of requests stayed full.

    Attributes:
        waiting: requests in the queue.
        waited_s: seconds the caller waited for room.
    """

    def __init__(self, waiting: int, waited_s: float) -> None:
        self.waiting = waiting
        self.waited_s = waited_s
        super().__init__(
            f"{waiting} requests were waiting for the model and none left within {waited_s:g} s: send fewer at a time, "
            "or raise queue_size or queue_timeout_s"
        )


class EngineClosedError(GenerationError):
    """The engine was used after close()."""


class CancelledGenerationError(GenerationError):
    """Somebody cancelled the request."""


class RemoteModelError(GenerationError):
    """A model server refused a request of ours, or failed the conformance probe."""


class TrainingError(HybridMemoryError):
    """A training run failed; what was trained so far stays, and the same call goes on from it."""


class BudgetError(HybridMemoryError):
    """A call was not made because its budget could not allow it.

    On purpose no `ValueError`: LlamaIndex's refine loop takes one for a bad answer of the model, and a query engine
    would say "Empty Response" in its place.
    """


class BudgetExceededError(BudgetError):
    """A call was not made because it could have exceeded a limit.

    Attributes:
        limit: which one, ``query``, ``tenant`` or ``day``.
        limit_value: what it allows.
        spent: so far, within it.
        reserved: for calls under way.
        needed: the most that this call can cost.
        unit: of the amounts.
        tenant: whose limit it is, where it is a tenant's; None for calls without one.
    """

    def __init__(
        self,
        limit: str,
        limit_value: Decimal,
        spent: Decimal,
        reserved: Decimal,
        needed: Decimal,
        unit: str,
        tenant: str | None = None,
    ) -> None:
        self.limit, self.limit_value, self.unit, self.tenant = limit, limit_value, unit, tenant
        self.spent, self.reserved, self.needed = spent, reserved, needed
        whose = "queries without a tenant" if tenant is None else f"tenant {tenant!r}"
        within = {"query": "this query", "tenant": f"{whose} today", "day": "today"}[limit]
        amounts = [f"{amount.normalize():f}" for amount in (limit_value, spent, reserved, needed)]
        later = ", or try again when the calls under way have ended" if reserved > 0 else ""
        super().__init__(
            "the limit for {} is {} {}: {} are spent, {} reserved for calls under way, and this call may need {}; "
            "a smaller prompt or max_tokens needs less{}".format(within, amounts[0], unit, *amounts[1:], later)
        )


class NotInSourcesError(HybridMemoryError):
    """The sources do not answer the question, and the engine was told to raise then.

    Attributes:
        reason: the evidence that was missing.
    """

    def __init__(self, question: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"not in the sources: {question!r} ({reason})")
