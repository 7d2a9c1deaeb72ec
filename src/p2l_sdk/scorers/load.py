"""Loading a saved folder with the scorer that its config requires: numpy for the static backbone, torch for others, or
what runs an exported graph where that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from p2l_sdk.errors import MissingExtraError, ModelFormatError, P2LError, member
from p2l_sdk.hub.access import HubAccess
from p2l_sdk.hub.config import backbone_kind, is_native, read_config
from p2l_sdk.hub.folders import DEFAULT_MODEL, REST, locate, tokenizer_file, whole_folder
from p2l_sdk.hub.onnx_files import ONNX_FILE, ONNX_FILES
from p2l_sdk.modeling.limits_p2l import shown
from p2l_sdk.modeling.spec_p2l import STATIC_BACKBONE
from p2l_sdk.scorers.onnx_sessions import Runtime
from p2l_sdk.scorers.scorer import Scorer


def open_scorer(
    source: str | Path | None,
    device: str | None = None,
    base: str | None = None,
    revision: str | None = None,
    access: HubAccess | None = None,
    untrusted: bool = False,
    runtime: str | None = None,
) -> tuple[Scorer, Path | None]:
    """The scorer of any source, with the folder that it was loaded from; arguments and errors as in
    `P2L.from_pretrained`. For a server, the token of `access` is its API key."""
    access = access or HubAccess()
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        from p2l_sdk.scorers.remote import RemoteScorer

        of_files: dict[str, Any] = {"revision": revision, "device": device, "base": base, "runtime": runtime}
        of_files["local_files_only"] = access.local_files_only
        if given := [name for name, value in of_files.items() if value]:
            raise P2LError(f"a server takes no {given[0]} (it has its model already); leave it out")
        return RemoteScorer(source, key=_key(access)), None
    folder = DEFAULT_MODEL if source is None else locate(source, revision, access, ONNX_FILES if runtime else ())
    if _is_exported(folder):
        return _on_vllm(folder, runtime, access, {"device": device, "base": base}), None
    if untrusted:
        try_out_folder(folder, runtime)
    elif source is not None and folder != Path(source).expanduser():  # a graph of the Hub is no graph of one's own
        _try_out_graph(folder, runtime)
    return load_scorer(folder, device, base, access, runtime), folder


def _key(access: HubAccess) -> str | None:
    """The API key of a server; None for that of the environment."""
    return access.token if isinstance(access.token, str) else "" if access.token is False else None


def _is_exported(folder: Path) -> bool:
    """Whether a folder holds a model that was exported for vLLM."""
    return (folder / REST / "config.json").is_file()


def _on_vllm(folder: Path, runtime: str | None, access: HubAccess, others: dict[str, Any]) -> Scorer:
    if runtime is None or not runtime.startswith(("http://", "https://")):
        raise P2LError(
            f"{str(folder)!r} was exported for vLLM; name the server that runs it: runtime='http://host:8000' (in "
            "commands, --runtime)"
        )
    if given := [name for name, value in others.items() if value]:
        raise P2LError(f"a vLLM server takes no {given[0]} (it has its model already); leave it out")
    from p2l_sdk.scorers.vllm import VllmScorer

    return VllmScorer(folder, runtime, key=_key(access))


def try_out_folder(folder: Path, runtime: str | None = None) -> None:
    """Let the tokenizer and the chat template of a folder read texts in a child process (see `tryout`), and its
    exported graph compute in another one (see `onnx_tryout`).

    Args:
        folder: of a model.
        runtime: "onnx" or "openvino" for the graph, too.

    Raises:
        ModelFormatError: they cannot, or not within the limits.
    """
    from p2l_sdk.hub.config import chat_template
    from p2l_sdk.scorers.tryout import require_small, try_out

    config, path = read_config(folder), tokenizer_file(folder)
    require_small(path)
    try_out(path, chat_template(folder) if config.get("chat", True) else None)
    _try_out_graph(folder, runtime)


def _try_out_graph(folder: Path, runtime: str | None) -> None:
    if runtime in (Runtime.ONNX, Runtime.OPENVINO) and (folder / ONNX_FILE).is_file():
        from p2l_sdk.scorers.onnx_tryout import try_out_graph

        try_out_graph(folder, Runtime(runtime))


def load_scorer(
    folder: Path,
    device: str | None = None,
    base: str | None = None,
    access: HubAccess | None = None,
    runtime: str | None = None,
) -> Scorer:
    """Load the scorer of a saved P2L model: numpy for the static backbone, torch for all others.

    Args:
        folder: a folder written by `save_pretrained`, or in lmarena's layout.
        device: the torch device, e.g. "cuda"; if given, torch is used for the static backbone too.
        base: for an adapter, a base to use instead of the one that it names.
        access: how the base of an adapter is fetched.
        runtime: "torch"; "onnx" or "openvino" for what `p2l export` wrote to the folder; None for what the model
            needs.

    Raises:
        HubError: the base of an adapter cannot be fetched from the Hub.
        ModelFormatError: the folder does not hold a whole P2L model, or none exported for this runtime.
        MissingExtraError: the model needs torch, or another runtime, which is not installed.
        P2LError: there is no such runtime, or it does not take this device or base.
    """
    if runtime is not None and (kind := member(Runtime, "runtime", runtime)) is not Runtime.TORCH:
        return _load_onnx(folder, kind, device, base)
    config = read_config(folder)
    device = (device or "cpu") if runtime is not None else device
    try:
        return _load(folder, config, device, base, access)
    except (P2LError, ImportError):
        raise
    except Exception as error:  # for values that no model has, libraries raise errors of their own kinds
        raise ModelFormatError(
            f"config.json of {str(folder)!r} is damaged: {type(error).__name__} {shown(error)}"
        ) from error


def _load_onnx(folder: Path, runtime: Runtime, device: str | None, base: str | None) -> Scorer:
    if given := [name for name, value in {"device": device, "base": base}.items() if value not in (None, "cpu")]:
        raise P2LError(f'runtime="{runtime}" runs on the CPU what was exported, and takes no {given[0]}; leave it out')
    from p2l_sdk.scorers.onnx_scorer import OnnxScorer

    config = read_config(folder)
    if not is_native(config) or backbone_kind(config) == STATIC_BACKBONE:
        raise P2LError(
            f"{str(folder)!r} has no text backbone in p2l-sdk's own layout, and only such run in {runtime}: a static "
            "model is as fast without (give no runtime), one in lmarena's layout becomes such by p2l convert"
        )
    return OnnxScorer.load(folder, config, runtime)


def _load(
    folder: Path, config: dict[str, Any], device: str | None, base: str | None, access: HubAccess | None
) -> Scorer:
    kind = backbone_kind(config)
    if kind == STATIC_BACKBONE and device is None and base is None:
        from p2l_sdk.scorers.static import StaticScorer

        return StaticScorer.load(folder, config)
    try:
        from p2l_sdk.scorers.transformer import TransformerScorer
    except ImportError as error:
        if (error.name or "").split(".")[0] not in ("torch", "transformers", "peft"):
            raise
        feature = f"device={device!r}" if device else f"a {kind} backbone"
        raise MissingExtraError(feature, error.name or "torch", "torch") from None
    with whole_folder(folder) as whole:
        return TransformerScorer.load(whole, config, device, base, access)
