"""One LLM more, fewer or renamed, without training the model again."""
