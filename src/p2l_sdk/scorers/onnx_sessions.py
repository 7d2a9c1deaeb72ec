"""What runs an ONNX file on the CPU: onnxruntime, or OpenVINO. Both are made to look alike."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np

from p2l_sdk.errors import MissingExtraError, ModelFormatError
from p2l_sdk.modeling.limits_p2l import shown

_QUIET = 3  # of onnxruntime's log: errors alone
_SLOWER = ["SkipLayerNormFusion"]  # its operator takes four times as long as the two that it replaces


class Runtime(StrEnum):
    """What runs a model."""

    TORCH = "torch"
    ONNX = "onnx"
    OPENVINO = "openvino"


class Session(Protocol):
    """A graph that is ready to run.

    Attributes:
        inputs, outputs: their names.
        step: prompts should be filled up to a multiple of so many tokens.
    """

    inputs: Sequence[str]
    outputs: Sequence[str]
    step: int

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs for these inputs."""
        ...


def open_session(file: Path, runtime: Runtime = Runtime.ONNX, threads: int | None = None) -> Session:
    """Load an ONNX file, which must have been checked (`hub.onnx_files.inspect_onnx`).

    Args:
        file: the file.
        runtime: onnxruntime or OpenVINO.
        threads: that compute; None for `default_threads`.

    Raises:
        MissingExtraError: the runtime is not installed.
        ModelFormatError: it cannot run the graph.
    """
    kind: type[_OpenVinoSession] | type[_OnnxSession] = (
        _OpenVinoSession if runtime is Runtime.OPENVINO else _OnnxSession
    )
    try:
        return kind(file, threads or default_threads())
    except ImportError as error:
        raise MissingExtraError(f'runtime="{runtime}"', error.name or kind.package, str(runtime)) from None
    except Exception as error:  # of many kinds, in both
        raise ModelFormatError(f"{str(file)!r} cannot be run: {shown(error)}") from None


class _OnnxSession:
    package = "onnxruntime"
    step = 1

    def __init__(self, file: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = _QUIET
        options.enable_mem_pattern = False  # batches have all sorts of shapes, and it keeps a plan for each
        options.add_session_config_entry(
            "session.intra_op.allow_spinning", "0"
        )  # idle threads leave the cores to others
        self._session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOWER
        )
        self.inputs: Sequence[str] = [given.name for given in self._session.get_inputs()]
        self.outputs: Sequence[str] = [output.name for output in self._session.get_outputs()]

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return list(self._session.run(None, dict(feed)))


class _OpenVinoSession:
    """OpenVINO computes in bfloat16 where the processor has instructions for it (AMX), and in float32 elsewhere."""

    package = "openvino"
    step = 4  # it plans for every new shape, which takes longer than a pass of a few prompts: so there are fewer shapes

    def __init__(self, file: Path, threads: int) -> None:
        import openvino

        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        compiled = openvino.Core().compile_model(str(file), "CPU", settings)
        self._request, self._lock = compiled.create_infer_request(), Lock()
        self.inputs: Sequence[str] = [given.get_any_name() for given in compiled.inputs]
        self.outputs: Sequence[str] = [output.get_any_name() for output in compiled.outputs]

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        with self._lock:  # a request has room for one answer
            found = self._request.infer(dict(feed))
            return [np.array(found[i]) for i in range(len(self.outputs))]


def default_threads() -> int:
    """OMP_NUM_THREADS, as for torch; else one for each core that this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
