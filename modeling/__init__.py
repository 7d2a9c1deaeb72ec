"""The model of P2L: formulas, configuration, prompt encoding and torch modules.

The one source of the model code. It is importable as `p2l_sdk.modeling` and is copied next to the weights as
Hub remote code. This face imports nothing, so that `feedback_p2l` can be used without torch.
"""
