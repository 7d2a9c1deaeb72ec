"""The gateway to LLMs: OpenAI's chat completions, budgets and failover."""
