"""Loading an adapter on its base, which is stored elsewhere or fetched from the Hub."""

from __future__ import annotations

from pathlib import Path

from p2l_sdk.errors import HubError, MissingExtraError, ModelFormatError
from p2l_sdk.hub.access import HubAccess
from p2l_sdk.modeling.adapter_p2l import merge_adapter
from p2l_sdk.modeling.configuration_p2l import P2LConfig
from p2l_sdk.modeling.modeling_p2l import P2LModel
from p2l_sdk.modeling.spec_p2l import base_of
from p2l_sdk.scorers.backbone import BaseModel


def load_adapter(folder: Path, base: str | None = None, access: HubAccess | None = None) -> P2LModel:
    """Load an adapter folder as a merged model.

    Args:
        folder: the adapter's folder.
        base: a base to use instead of the one that the adapter names.
        access: how the base is fetched.

    Raises:
        HubError: the base cannot be fetched from the Hub.
        MissingExtraError: peft is not installed.
        ModelFormatError: the base cannot be loaded, or adapter and base do not belong together.
    """
    name, revision = base_of(folder) if base is None else (str(base), None)
    try:
        backbone = BaseModel(name, revision, access or HubAccess()).load()
    except (ModelFormatError, HubError) as error:
        remedy = "Name a base that is elsewhere with base=... (--base)"
        raise type(error)(f"{str(folder)!r} is an adapter: {error}. {remedy}") from error
    try:
        read = P2LConfig.from_pretrained(folder, local_files_only=True)  # it knows how JSON spells infinity
        return merge_adapter(P2LModel.on_backbone(read, backbone), folder)
    except ImportError:
        raise MissingExtraError("an adapter", "peft", "torch") from None
