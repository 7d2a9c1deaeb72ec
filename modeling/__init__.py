"""The P2L model: formulas, configuration, prompt encoding and torch modules.

This is the only copy of the model code. It is importable as `p2l_sdk.modeling` and is saved next to the weights as
Hub remote code. This `__init__` imports nothing, so that `feedback_p2l` can be used without torch.
"""
