"""What an exported graph may compute: operators whose results are as large as the numbers of prompts and tokens say.

The size of most results follows from the shapes of what they are computed from. A few operators are told it by a
value, and that of a token must not be one: a graph could take any memory for a word that nobody tried. So such a value
may come from constants and from shapes alone, in the few ways that exporters take.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_EACH_NUMBER = """
Abs Add And Cast Ceil Clip Cos Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Identity
IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or Pow PRelu Reciprocal Relu Round Selu
Sigmoid Sign Sin Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor
"""
_WHOLE_ARRAYS = """
ArgMax ArgMin Attention AveragePool BatchNormalization Concat Constant Conv CumSum Einsum Flatten Gather GatherElements
GatherND Gemm GlobalAveragePool GroupNormalization InstanceNormalization LayerNormalization LogSoftmax
LpNormalization MatMul MaxPool RMSNormalization ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin
ReduceProd ReduceSum ReduceSumSquare Reshape RotaryEmbedding ScatterElements ScatterND Shape Size Slice Softmax Split
Squeeze TopK Transpose Trilu Unsqueeze
"""
_IN_8_BITS = "DequantizeLinear DynamicQuantizeLinear MatMulInteger QLinearMatMul QuantizeLinear"
_SIZED = {  # operators that are told the size of their result, and which of their inputs say it
    "ConstantOfShape": (0,),
    "DFT": (1,),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Tile": (1,),
}
OPERATORS = frozenset(f"{_EACH_NUMBER} {_WHOLE_ARRAYS} {_IN_8_BITS}".split()) | _SIZED.keys()
_OF_SHAPES = frozenset({"Shape", "Size"})
# what may be done to a shape before it is a size: no comparison, so that no size is an exception to all others
_SHAPE_STEPS = """
Add Cast Concat Constant ConstantOfShape Div Expand Flatten Gather Identity Max Min Mul Neg Range ReduceMax ReduceProd
ReduceSum Reshape Slice Split Squeeze Sub Unsqueeze
"""
_STEPS = frozenset(_SHAPE_STEPS.split())


@dataclass(frozen=True)
class Node:
    """An operator of a graph, and the names of the values that it takes and gives."""

    kind: str
    inputs: Sequence[str]
    outputs: Sequence[str]


def sized_by_values(nodes: Sequence[Node], constants: Iterable[str]) -> Iterator[str]:
    """The types of the operators whose result has a size that more than constants and shapes decide.

    Args:
        nodes: of a graph, in their order. What an operator takes before it was given counts as a value.
        constants: the names of the graph's own weights.
    """
    known = {"", *constants}
    for node in nodes:
        told = [node.inputs[i] for i in _SIZED.get(node.kind, ()) if i < len(node.inputs)]
        if not known.issuperset(told):
            yield node.kind
        if node.kind in _OF_SHAPES or (node.kind in _STEPS and known.issuperset(node.inputs)):
            known.update(node.outputs)
        else:
            known.difference_update(node.outputs)
