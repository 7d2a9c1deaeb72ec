"""A model over HTTP: the P2L API, and one OpenAI-compatible endpoint in front of many LLMs."""
