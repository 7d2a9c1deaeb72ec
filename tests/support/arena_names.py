"""Names of LLMs as the Arena writes them: those that are hardest to tell apart."""

_TEXT = """
amazon-nova-lite-v1.0 amazon-nova-pro-v1.0 athene-v2-chat c4ai-aya-expanse-8b chatgpt-4o-latest-20250326
claude-3-5-haiku-20241022 claude-3-5-sonnet-20240620 claude-3-5-sonnet-20241022 claude-3-7-sonnet-20250219
claude-3-7-sonnet-20250219-thinking-32k claude-3-haiku-20240307 claude-haiku-4-5-20251001 claude-opus-4-1-20250805
claude-opus-4-1-20250805-thinking-16k claude-opus-4-20250514 claude-sonnet-4-20250514 claude-sonnet-4-5-20250929
command-a-03-2025 command-r command-r-08-2024 command-r-plus command-r-plus-08-2024 deepseek-coder-v2 deepseek-r1
deepseek-r1-0528 deepseek-v2.5 deepseek-v3 deepseek-v3-0324 deepseek-v3.1 deepseek-v3.1-thinking deepseek-v3.2
gemini-1.5-flash-001 gemini-1.5-flash-002 gemini-1.5-flash-8b-001 gemini-1.5-pro-002 gemini-2.0-flash-001
gemini-2.0-flash-lite-preview-02-05 gemini-2.5-flash gemini-2.5-flash-lite-preview-06-17-thinking gemini-3-pro
gemma-2-27b-it gemma-2-9b-it gemma-2-9b-it-simpo glm-4.5 glm-4.5-air glm-4.6 gpt-3.5-turbo-0125 gpt-3.5-turbo-1106
gpt-4-0125-preview gpt-4-0314 gpt-4-0613 gpt-4-1106-preview gpt-4-turbo-2024-04-09 gpt-4.1-2025-04-14
gpt-4.1-mini-2025-04-14 gpt-4.5-preview-2025-02-27 gpt-4o-2024-05-13 gpt-4o-2024-08-06 gpt-4o-mini-2024-07-18
gpt-5-chat gpt-5-high gpt-5-mini-high gpt-5.1 gpt-oss-20b grok-2-2024-08-13 grok-3-mini-high grok-3-preview-02-24
grok-4-0709 grok-4-1-fast-reasoning jamba-1.5-large kimi-k2-0711-preview kimi-k2-0905-preview
kimi-k2-thinking-turbo llama-2-7b-chat llama-3-70b-instruct llama-3-8b-instruct llama-3.1-405b-instruct-bf16
llama-3.1-405b-instruct-fp8 llama-3.1-70b-instruct llama-3.1-8b-instruct llama-3.3-70b-instruct
llama-3.3-nemotron-49b-super-v1 llama-4-maverick-17b-128e-instruct ministral-8b-2410 mistral-7b-instruct
mistral-7b-instruct-v0.2 mistral-large-2402 mistral-large-2407 mistral-large-3 mistral-medium mistral-medium-2505
mistral-small-3.1-24b-instruct-2503 mixtral-8x7b-instruct-v0.1 nvidia-llama-3.3-nemotron-super-49b-v1.5
o1-2024-12-17 o1-mini o1-preview o3-2025-04-16 o3-mini o3-mini-high phi-3-mini-4k-instruct
phi-3-mini-4k-instruct-june-2024 phi-4 qwen-max-0919 qwen2.5-72b-instruct qwen3-235b-a22b
qwen3-235b-a22b-instruct-2507 qwen3-235b-a22b-no-thinking qwen3-235b-a22b-thinking-2507
qwen3-next-80b-a3b-instruct qwen3-next-80b-a3b-thinking qwq-32b qwq-32b-preview smollm2-1.7b-instruct vicuna-13b
zephyr-orpo-141b-A35b-v0.1
"""
NAMES = tuple(_TEXT.split())
