"""The router in front of LLMs: OpenAI's chat completions, budgets and failover."""
