"""The names of OpenTelemetry's GenAI conventions that we use, from one pinned source; knows nothing of traces; pure.

Source: the repository open-telemetry/semantic-conventions-genai, commit 8d3e4a0f3c34a46f6edb9c71e8666e02e6bf3958 of
its main branch: the one from which opentelemetry-js makes its constants (pull request 7014, August 2026). The
repository has no release, and everything in it is in development. The same strings stand, marked as moved, in
opentelemetry-semantic-conventions 0.66b2.

Main has gone on since (``docs/gen-ai/client-inference.md``, read in November 2026): a duration metric for each kind of
operation, token metrics by direction and modality, ``cache_write`` for ``cache_creation``. Backends read the names
below; when they have followed, this is the module to change.
"""

from __future__ import annotations

CONVENTIONS = "open-telemetry/semantic-conventions-genai@8d3e4a0f3c34a46f6edb9c71e8666e02e6bf3958"
"""Where the names come from."""

# Every operation.
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
MODEL = "gen_ai.request.model"
ERROR_TYPE = "error.type"
ERROR_OTHER = "_OTHER"
"""The fallback of `ERROR_TYPE`: an error whose class is not known."""

# Operations. There is none for reranking (issue 253 proposes this name), so that one is a custom value.
CHAT = "chat"
EMBEDDINGS = "embeddings"
RETRIEVAL = "retrieval"
WORKFLOW = "invoke_workflow"
RERANK = "rerank"

# Inference.
STREAM = "gen_ai.request.stream"
FIRST_CHUNK_S = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE = "gen_ai.usage.cache_creation.input_tokens"
REASONING = "gen_ai.usage.reasoning.output_tokens"

# Content: opt-in.
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"

# Retrieval.
DATA_SOURCE = "gen_ai.data_source.id"

# Cost: not in the conventions yet. As pull request 443 of that repository has it (open, August 2026), on inference
# spans only, so that no sum counts twice.
COST_AMOUNT = "gen_ai.usage.cost.amount"
COST_CURRENCY = "gen_ai.usage.cost.currency"
COST_SOURCE = "gen_ai.usage.cost.source"
COST_LOCAL = "local"
"""A `COST_SOURCE`: computed here, from prices of our own, not told by the provider."""

# Metrics, with the buckets that the conventions give.
TOKEN_USAGE = "gen_ai.client.token.usage"
TOKEN_USAGE_BUCKETS = tuple(4**power for power in range(14))
TOKEN_TYPE = "gen_ai.token.type"
TOKEN_INPUT = "input"
TOKEN_OUTPUT = "output"
DURATION = "gen_ai.client.operation.duration"
DURATION_BUCKETS = tuple(round(0.01 * 2**power, 2) for power in range(14))

PROVIDERS = {
    "aws": "aws.bedrock",
    "azure": "azure.ai.openai",
    "google": "gcp.gen_ai",  # which of Google's endpoints is not known
    "mistral": "mistral_ai",
    "moonshotai": "moonshot_ai",
    "x-ai": "x_ai",
}
"""genai-prices' names of providers for which the conventions have another; the rest are the same."""

UNKNOWN_PROVIDER = "unknown"
"""A custom value: the conventions require a provider of every inference."""
