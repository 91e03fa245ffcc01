"""A small published LAVT: its checkpoint, its tokenizer, and the model that they make."""

import pytest
import torch
from helpers.small_segmenters import WORDS, small_lavt

from xattn_edu.predict.loading import load_segmenter
from xattn_edu.weights import lavt_to_published


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    from transformers import BertTokenizerFast

    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "lavt.pth"
    torch.save(lavt_to_published(small_lavt().state_dict()), path)
    return path


@pytest.fixture(scope="module")
def published(checkpoint, tokenizer_folder):
    return load_segmenter(checkpoint, tokenizer=tokenizer_folder, size=32, device="cpu")
