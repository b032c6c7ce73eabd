"""Who is paid for a model, told from the LlamaIndex class that calls it; pure, knows no prices and no addresses.

The names are what `class_name()` returns, read in the integrations' sources in November 2026; several differ from the
name of the class. A class says whom it was made for: one that is pointed at another address is paid elsewhere.
"""

from __future__ import annotations

LOCAL = "local"
"""The provider of a model in this process or on a machine of one's own."""

_CLASSES = {
    LOCAL: """HuggingFace_LLM LoraHuggingFaceLLM RemoteLoraLLM LlamaCPP_llm llamafile_llm Ollama_llm VllmServer MockLLM
        HuggingFaceEmbedding MiniLMEmbedding FastEmbedEmbedding OllamaEmbedding MockEmbedding
        SentenceTransformerRerank""",
    "anthropic": "Anthropic_LLM",
    "aws": "Bedrock_LLM Bedrock_Converse_LLM BedrockEmbedding",
    "azure": "azure_openai_llm AzureOpenAIEmbedding",
    "cerebras": "Cerebras",
    "cohere": "Cohere_LLM CohereEmbedding CohereRerank",
    "deepseek": "DeepSeek",
    "fireworks": "Fireworks_LLM FireworksEmbedding",
    "google": "GenAI Gemini_LLM GeminiEmbedding",
    "groq": "Groq",
    "mistral": "MistralAI_LLM MistralAIEmbedding",
    "openai": "openai_llm openai_responses_llm OpenAIEmbedding",
    "openrouter": "OpenRouter_LLM",
    "perplexity": "perplexity_llm",
    "together": "TogetherLLM",
    "voyageai": "VoyageEmbedding",
}
"""Class names by provider, as genai-prices 0.2.3 names it."""

_PROVIDERS = {name: provider for provider, names in _CLASSES.items() for name in names.split()}

_SILENT_STREAMS = frozenset(
    """openai_llm azure_openai_llm OpenAILike litellm_llm Cerebras DeepSeek Fireworks_LLM OpenRouter_LLM
    TogetherLLM""".split()
)

HOW_TO_STREAM_USAGE = 'additional_kwargs={"stream_options": {"include_usage": True}}'
"""What an LLM of the OpenAI family is made with, so that its streams end with token counts."""


def provider_of(class_name: str) -> str | None:
    """Name who is paid for a model.

    Args:
        class_name: of an LLM, an embedding model or a reranker, as its `class_name()` gives it.

    Returns:
        The provider as genai-prices names it; ``local`` for a model in this process or on a machine of one's own;
        None for a class that is unknown or, as ``OpenAILike`` and ``litellm_llm``, calls whomever it is told to.
    """
    return _PROVIDERS.get(class_name)


def reports_usage_in_streams(class_name: str) -> bool:
    """Tell whether an LLM's streams may carry token counts unasked.

    False for the OpenAI family, whose streams have none unless the LLM was made with `HOW_TO_STREAM_USAGE`. True for
    all others, unknown ones too: that argument is not for them.
    """
    return class_name not in _SILENT_STREAMS
