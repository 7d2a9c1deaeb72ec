"""Small real models and data for the tests, built in memory and saved to temporary folders; no network, no GPU."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # no test may use the network
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "agg"  # no test opens a window
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each of the processes would compile the SDK anew
# the models are tiny; threads would only wait for each other. numpy and torch read this when they are imported
os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"

MODELS = ("alpha-7b", "beta-13b", "gamma-70b", "delta-405b")
COSTS = {"alpha-7b": 0.0001, "beta-13b": 0.0002, "gamma-70b": 0.0009, "delta-405b": 0.003}
WORDS = ["prove", "that", "the", "square", "root", "of", "two", "is", "irrational", "write", "a", "poem", "about"]
WORDS += ["code", "in", "python", "sum", "list"]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def pytest_xdist_auto_num_workers() -> int | None:
    """Half as many again as there are cores: in a third of their time tests wait for servers and clocks."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + (cores + 1) // 2


# files and rooms with tests that take long, in the order of their length: they begin first, so that no worker is left
# alone with one of them at the end
LONG = ("hostile/", "test_docs.py", "training/", "editing/", "kinds/", "hub/", "scorers/", "examples/", "bulk/", "mpg/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of `serve` start servers, kill them and wait for them, and those of `mpg measure` have a clock as their
    subject: under load it alone can fail one.

    It is tried once more, and the summary names it (RERUN): what fails twice is a fault, and what is named often, too.
    Files that take long begin first.
    """
    for item in items:
        if item.path.is_relative_to(ROOT / "tests" / "serve") or item.path.name == "test_mpg_measure.py":
            item.add_marker(pytest.mark.flaky(reruns=1))
    items.sort(key=_rank)  # which leaves those of a file as they are


def _rank(item: pytest.Item) -> int:
    place = item.path.relative_to(ROOT / "tests").as_posix()
    return next((i for i, start in enumerate(LONG) if place.startswith(start)), len(LONG))


def shared(path: str) -> Path:
    """A file in ../shared; if it is missing, the test is skipped with a reason."""
    found = SHARED / path
    if not found.exists():
        pytest.skip(f"../shared/{path} is not here; this test needs it")
    return found


def word_tokenizer():
    """A word-level tokenizer with BERT's special tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<|cls|>", "<|im_start|>", "<|im_end|>"]
    letters = list("abcdefghijklmnopqrstuvwxyz[]<>|_.,?!0123456789")
    vocab = {token: i for i, token in enumerate(dict.fromkeys([*special, *WORDS, *letters]))}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.BertNormalizer(lowercase=True)])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"]))
    return tokenizer


def transformers_tokenizer():
    """The same tokenizer for transformers, with a chat template."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer(), unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def backbone_config(kind: str):
    """(configuration, spec fields) of a tiny random backbone: static, quantized, llama, qwen2 or bert."""
    from transformers import BertConfig, LlamaConfig, Qwen2Config

    from p2l_sdk.modeling.static_p2l import StaticConfig

    vocab = word_tokenizer().get_vocab_size()
    small = {"vocab_size": vocab, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    static = {"pooling": "pooler", "chat": False}
    return {
        "static": lambda: (StaticConfig(vocab_size=vocab, embedding_size=16), static),
        "quantized": lambda: (
            StaticConfig(
                vocab_size=vocab,
                embedding_size=16,
                norm_power=0.5,
                length_feature=True,
                word_features=3,
                quantized=True,
            ),
            static,
        ),
        "llama": lambda: (LlamaConfig(**small, **heads), {"pooling": "last", "cls_token": "<|cls|>"}),
        "qwen2": lambda: (Qwen2Config(**small, **heads), {"pooling": "last", "cls_token": "<|cls|>"}),
        "bert": lambda: (
            BertConfig(**small, num_attention_heads=4),
            {"pooling": "mean", "chat": False, "add_special_tokens": True},
        ),
    }[kind]()


def build_model(kind: str, feedback: str = "grk", seed: int = 0, **fields):
    """A tiny random P2LModel in which every tensor affects the output (no zeros, no ones)."""
    import torch

    from p2l_sdk.modeling.configuration_p2l import P2LConfig
    from p2l_sdk.modeling.modeling_p2l import P2LModel

    backbone, defaults = backbone_config(kind)
    spec = {"models": MODELS, "feedback": feedback, "costs": COSTS, "max_prompt_tokens": 24, **defaults, **fields}
    torch.manual_seed(seed)
    model = P2LModel(P2LConfig(backbone_config=backbone, **spec)).eval()
    for parameter in model.parameters():
        if parameter.dtype == torch.int8:
            parameter.data = torch.randint(-127, 128, parameter.shape, dtype=torch.int8)
        else:
            parameter.data += 0.3 * torch.randn_like(parameter)
    if kind == "quantized":
        for scale in (model.backbone.scale, model.backbone.words.scale):
            scale.data = 0.01 + 0.02 * torch.rand_like(scale)
        model.backbone.length.data = torch.tensor([1.0, 0.8, 0.5, 2.0])
    return model


def save_model(folder: Path, kind: str, feedback: str = "grk", **fields) -> Path:
    """Save a tiny random P2L model to a folder."""
    build_model(kind, feedback, **fields).save_pretrained(folder)
    transformers_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_temporary_folder(tmp_path_factory):
    """The system's temporary folder for this run and its processes, so that it never meets what a killed one left.

    Its path is short: that of a socket in it must be. With one authority for TLS, which no test uses, instead of the
    system's: hundreds of clients of HTTP would read all of these, each for 45 ms.
    """
    tmp_path_factory.getbasetemp()  # stays in the system's own, where pytest keeps those of the last runs
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="t-") as folder:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        if importlib.util.find_spec("certifi") is not None:
            import certifi

            end = "-----END CERTIFICATE-----\n"
            authority = Path(folder, "authority.pem")
            authority.write_text(Path(certifi.where()).read_text(encoding="utf-8").partition(end)[0] + end)
            patch.setenv("SSL_CERT_FILE", str(authority))
        yield


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """saved(kind, feedback, **fields) -> a folder with a tiny random model, created once per session."""
    made: dict[str, Path] = {}

    def make(kind: str, feedback: str = "grk", **fields) -> Path:
        key = f"{kind}-{feedback}-{sorted(fields.items())}"
        if key not in made:
            made[key] = save_model(tmp_path_factory.mktemp("models") / f"m{len(made)}", kind, feedback, **fields)
        return made[key]

    return make


@pytest.fixture(scope="session")
def default():
    """The embedded default model."""
    from p2l_sdk import P2L

    return P2L.from_pretrained()


@pytest.fixture(scope="session")
def routing9():
    """The small embedded model: nine LLMs, grounded, all costs known."""
    from p2l_sdk import P2L

    return P2L.from_pretrained("routing9")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20250224)


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """base(kind) -> the folder of a tiny random backbone (llama, bert), created once per session."""
    from fine_tuning import write_base

    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            made[kind] = write_base(tmp_path_factory.mktemp("bases") / kind, kind)
        return made[kind]

    return make


@pytest.fixture(scope="session")
def running_hub():
    from hub_client import GUEST, OWNER
    from hub_server import LocalHub

    with LocalHub() as running:
        running.users |= {OWNER: "org", GUEST: "guest"}
        yield running


@pytest.fixture
def hub(running_hub):
    """The local Hub (`hub_server`), shared by all tests; faults are cleared after each test."""
    yield running_hub
    running_hub.faults.clear()
    running_hub.retry_after = None


@pytest.fixture(scope="session")
def processes(running_hub, tmp_path_factory):
    """Processes that use the local Hub, each with its own cache: pusher, loader, and researcher without p2l_sdk."""
    from hub_client import Client

    homes = tmp_path_factory.mktemp("homes")
    names = ("pusher", "loader", "researcher")
    running = {name: Client(running_hub, homes / name, sdk=name != "researcher") for name in names}
    yield running
    for process in running.values():
        process.close()


@pytest.fixture
def repository(hub, saved):
    """A new repository with a static model, as if someone had pushed it: its name, and its coefficients for PROMPTS."""
    from hub_client import PROMPTS

    from p2l_sdk import P2L

    folder = saved("quantized")
    name = f"org/tiny-{len(hub.repos)}"
    hub.add(name, {file.name: file.read_bytes() for file in folder.iterdir()})
    return name, P2L.from_pretrained(folder).coefficients(PROMPTS).coefs


@pytest.fixture
def space(monkeypatch):
    """space(name) -> a module from examples/space."""
    folder = ROOT / "examples" / "space"
    for path in folder.glob("*.py"):  # others have modules of these names, too
        monkeypatch.delitem(sys.modules, path.stem, raising=False)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # no __pycache__ in a folder that is published as it is
    yield importlib.import_module
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)
