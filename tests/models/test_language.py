"""Sentences cut by hand and by the library; words that know nothing of padding; a BERT beside its equations."""

import pickle
import unicodedata

import pytest
import torch
from helpers.small_bert import KOREAN, SENTENCES, WORDS, bert_by_hand, save_bert, shaken
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from xattn_edu.measure import costs
from xattn_edu.models.language import SPECIAL, FrozenWords, PhraseBook, SmallBert, build_tokenizer, clean
from xattn_edu.weights.language import load_bert, load_tokenizer, minilm_folder


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(WORDS + KOREAN)


def seeded(make, seed=0):
    torch.manual_seed(seed)
    return make()


# --- tokenizers


def cut_by_hand(word, vocabulary):
    """WordPiece: the longest piece that fits, again and again."""
    pieces = []
    while word:
        start = "##" if pieces else ""
        piece = next((start + word[:n] for n in range(len(word), 0, -1) if start + word[:n] in vocabulary), None)
        if piece is None:
            return ["[UNK]"]
        pieces.append(piece)
        word = word[len(piece) - len(start) :]
    return pieces


def test_the_vocabulary(tokenizer):
    known = set("the small red car left of closest to tree second from t - shirt cafe".split() + KOREAN)
    letters = set("".join(known))
    pieces = tokenizer.tokens(range(len(tokenizer)))
    assert len(set(pieces)) == len(pieces)
    assert tuple(pieces[:5]) == SPECIAL == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    assert set(pieces[5:]) == known | letters | {"##" + letter for letter in letters}
    assert "차" in letters and not any("\u1100" <= letter <= "\u11ff" for letter in letters)  # syllables, no jamo


def test_the_same_words_give_the_same_ids(tokenizer):
    again = build_tokenizer(iter([*reversed(KOREAN), *WORDS, "The", "CAR"]))
    everything = range(len(tokenizer))
    assert again.tokens(everything) == tokenizer.tokens(everything) and len(again) == len(tokenizer)


def test_a_sentence(tokenizer):
    ids, mask = tokenizer(["The small RED car", "the trees"], length=8)
    assert ids.dtype == torch.int64 and mask.dtype == torch.bool and ids.shape == mask.shape == (2, 8)
    assert tokenizer.tokens(ids[0]) == "[CLS] the small red car [SEP] [PAD] [PAD]".split()
    assert tokenizer.tokens(ids[1][mask[1]]) == tokenizer.tokens(ids[1].tolist())[:5]
    assert tokenizer.tokens(ids[1][:5]) == "[CLS] the tree ##s [SEP]".split()
    assert mask.tolist() == [[True] * 6 + [False] * 2, [True] * 5 + [False] * 3]
    assert (ids[~mask] == 0).all() and ids[0, 0] == 2 and ids[0, 5] == 3


@pytest.mark.parametrize(
    ("sentence", "pieces"),
    [
        ("t-shirt", "t - shirt"),
        ("Café cafe\u0301 CAFE", "cafe cafe cafe"),  # accents go, however they are written
        ("왼쪽에서 두 번째 자동차", "왼쪽에서 두 번째 자동차"),
        ("\u110c\u1161\u1103\u1169\u11bc\u110e\u1161", "자동차"),  # the same letters, one by one
        ("자동차차 무차", "자동차 ##차 무 ##차"),
        ("zebra  the\ttree\n", "[UNK] the tree"),
        ("the [MASK]", "the [MASK]"),
        ("큰car", "큰 ##c ##a ##r"),
    ],
)
def test_how_words_are_cut(tokenizer, sentence, pieces):
    ids, mask = tokenizer([sentence], length=None)
    assert mask.all() and tokenizer.tokens(ids[0]) == ["[CLS]", *pieces.split(), "[SEP]"]


@given(st.lists(st.text("thesmalrdcfo", min_size=1, max_size=9), min_size=1, max_size=6))
def test_pieces_equal_a_cut_by_hand(tokenizer, words):
    vocabulary = set(tokenizer.tokens(range(len(tokenizer))))
    ids, _ = tokenizer([" ".join(words)], length=None)
    pieces = tokenizer.tokens(ids[0])[1:-1]
    assert pieces == [piece for word in words for piece in cut_by_hand(word, vocabulary)]
    assert "".join(pieces).replace("##", "") == "".join(words)  # made of known letters: nothing is lost


def test_what_is_too_long_ends_with_sep_all_the_same(tokenizer):
    ids, mask = tokenizer(["the car left of the tree", "the"], length=5)
    assert tokenizer.tokens(ids[0]) == "[CLS] the car left [SEP]".split() and mask[0].all()
    ids, _ = tokenizer(["the " * 30])
    assert ids.shape == (1, 20)  # LAVT's length
    whole, mask = tokenizer(["the " * 30, "tree"], length=None)  # what was asked for before is forgotten
    assert whole.shape == (2, 32) and mask.sum(dim=1).tolist() == [32, 3]
    assert tokenizer(["tree"], length=None)[0].shape == (1, 3)


def test_a_copy_for_another_process(tokenizer):
    again = pickle.loads(pickle.dumps(tokenizer))
    assert torch.equal(again(SENTENCES)[0], tokenizer(SENTENCES)[0])


@pytest.mark.parametrize(
    ("sentences", "error", "message"),
    [
        ([], ValueError, "one sentence at least"),
        ("the car", TypeError, r"'the car': write \[...\]"),
        (["the car", 3], TypeError, "number 1 is 3"),
        ([None], TypeError, "number 0 is None"),
        (["the car", " \t"], ValueError, "number 1 is blank"),
        ([""], ValueError, "number 0 is blank"),
    ],
)
def test_what_is_no_list_of_sentences(tokenizer, sentences, error, message):
    with pytest.raises(error, match=message):
        tokenizer(sentences)
    with pytest.raises(error, match=message.replace("sentence", "word")):
        build_tokenizer(sentences)


@pytest.mark.parametrize("length", [2, 0, -1])
def test_too_short_a_length(tokenizer, length):
    for read, sentences in ((tokenizer, ["the car"]), (tokenizer.encode, "the car")):
        with pytest.raises(ValueError, match=f"3 at least, given {length}"):
            read(sentences, length)


def test_one_sentence_with_the_places_of_its_pieces(tokenizer):
    encoding = tokenizer.encode("The trees,  big", length=9)
    ids, mask = tokenizer(["The trees,  big"], length=9)
    assert torch.equal(encoding.ids, ids[0]) and torch.equal(encoding.mask, mask[0])
    assert tokenizer.tokens(encoding.ids[encoding.mask]) == "[CLS] the tree ##s [UNK] [UNK] [SEP]".split()
    assert encoding.words[:7] == [None, 0, 1, 1, 2, 3, None] and encoding.words[7:] == [None, None]
    assert encoding.offsets[1:6] == [(0, 3), (4, 8), (8, 9), (9, 10), (12, 15)]
    cut = tokenizer.encode("the small red car", length=4)
    assert tokenizer.tokens(cut.ids) == "[CLS] the small [SEP]".split()
    assert len(tokenizer.encode("the " * 30, length=None).ids) == 32


@pytest.mark.parametrize("sentence", ["", " \t"])
def test_a_blank_sentence_encodes_to_cls_and_sep(tokenizer, sentence):
    encoding = tokenizer.encode(sentence, length=5)
    assert tokenizer.tokens(encoding.ids) == "[CLS] [SEP] [PAD] [PAD] [PAD]".split()
    assert encoding.mask.tolist() == [True, True, False, False, False]


# --- sentences as Unicode has them

UNSEEN = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u202e\u0007\u0000\u007f\u0085\u115f\u3164"


@pytest.mark.parametrize("sentence", [*SENTENCES, "Café, T-shirt", "왼쪽에서 두 번째 자동차", "☂️ 🙂 👍🏽 x̂", " a  b "])
def test_an_ordinary_sentence_is_read_as_it_is(sentence):
    assert clean(sentence) == sentence


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]), max_size=20))
def test_cleaning_changes_the_form_alone_and_once(sentence):
    cleaned = clean(sentence)
    fillers = {ord(filler): None for filler in "\u115f\u1160\u3164\uffa0"}
    spaced = "".join(" " if character.isspace() else character for character in sentence)
    assert cleaned == unicodedata.normalize("NFC", spaced.translate(fillers)) == clean(cleaned)


def test_what_nobody_sees_is_dropped():
    for character in UNSEEN.replace("\u0085", ""):
        assert clean(f"the{character} c{character}ar") == "the car", hex(ord(character))
    assert clean("the\tred\ncar\u2028left\u00a0of\u0085it") == "the red car left of it"
    assert clean("e\u200b\u0301") == "é"  # composed when what stood between is gone
    assert clean(unicodedata.normalize("NFD", "왼쪽 café")) == "왼쪽 café"


def test_bytes_that_are_no_utf8_are_refused(tokenizer):
    sentence = b"the caf\xe9".decode("utf-8", "surrogateescape")  # as in the arguments of a command
    for read in (clean, tokenizer.encode, lambda text: tokenizer([text]), lambda text: build_tokenizer([text])):
        with pytest.raises(ValueError, match=r"'the caf\\udce9' holds '\\udce9', which is no character: .* UTF-8"):
            read(sentence)


@pytest.mark.parametrize("which", ["built", "loaded"])
def test_a_sentence_has_the_same_ids_however_it_is_stored(which, tokenizer, folder):
    read = tokenizer if which == "built" else load_tokenizer(folder)
    words = unicodedata.normalize("NFD", "왼쪽에서 두 번째 자동차 café")
    for sentence, ordinary in ((words, unicodedata.normalize("NFC", words)), ("the\u200b ca\u00adr\ufeff", "the car")):
        for one, other in zip(read([sentence]), read([ordinary])):
            assert torch.equal(one, other)
        one, other = read.encode(sentence, 9), read.encode(ordinary, 9)
        assert torch.equal(one.ids, other.ids) and one[2:] == other[2:] and one.text == ordinary


def test_an_ordinary_sentence_has_the_ids_of_the_librarys_tokenizer(tokenizer):
    for sentence in [*SENTENCES, "왼쪽에서 두 번째 자동차", "Café  T-shirt!", "🙂 ☂️ zebra"]:
        assert tokenizer.encode(sentence, None).ids.tolist() == tokenizer.backend.encode(sentence).ids


def test_words_are_the_same_however_they_are_stored():
    decomposed = [unicodedata.normalize("NFD", word) + "\u200b" for word in KOREAN]
    assert build_tokenizer(decomposed).backend.get_vocab() == build_tokenizer(KOREAN).backend.get_vocab()


def test_where_reading_ended(tokenizer):
    for sentence, length, end in (
        ("the small red car", 4, 10),
        ("the trees", 4, 8),
        ("the", 3, 3),
        ("the ", 3, 4),
        (" ", 3, 1),
    ):
        assert tokenizer.encode(sentence, length).end == end
    assert tokenizer.encode("the x̂", 4).end == 6  # the mark of the last letter is read with it


@pytest.mark.parametrize("sentence", ["\u200b", "\u0007 \t", "\ufeff\u3164"])
def test_a_sentence_of_which_nothing_is_seen_is_blank(sentence, tokenizer, book):
    for read in (tokenizer, build_tokenizer, book):
        with pytest.raises(ValueError, match="number 0 is blank"):
            read([sentence])
    assert tokenizer.tokens(tokenizer.encode(sentence, length=3).ids) == ["[CLS]", "[SEP]", "[PAD]"]


def test_a_book_finds_a_phrase_however_it_is_stored(folder):
    encoder, read = load_bert(folder), load_tokenizer(folder)
    stored = PhraseBook([unicodedata.normalize("NFD", "왼쪽에서 café"), "the\u200b car"], encoder, read)
    assert torch.equal(stored(["왼쪽에서 café"])[0], stored([unicodedata.normalize("NFD", "왼쪽에서 café")])[0])
    assert stored.rows.keys() == {"왼쪽에서 café", "the car"}


def test_ids_that_have_no_name(tokenizer):
    for ids in ([len(tokenizer)], [0, -1]):
        with pytest.raises(ValueError, match=f"0 to {len(tokenizer) - 1}"):
            tokenizer.tokens(ids)
    with pytest.raises(ValueError, match=r"\(2, 20\): write ids\[0\]"):
        tokenizer.tokens(tokenizer(["the", "car"])[0])


# --- encoders: what holds for each


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("bert")
    save_bert(folder, tokenizer.tokens(range(len(tokenizer))))
    return folder


@pytest.fixture(scope="module")
def minilm():
    try:
        return minilm_folder()
    except ModuleNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def book(folder):
    return PhraseBook(SENTENCES, load_bert(folder), load_tokenizer(folder))


@pytest.fixture(params=["small", "loaded", "frozen", "minilm", "frozen minilm"])
def pair(request, tokenizer):
    """Each kind of encoder with what makes its ids."""
    if request.param == "small":
        return shaken(seeded(lambda: SmallBert(len(tokenizer), width=32, heads=2, dropout=0.1))), tokenizer
    place = request.getfixturevalue("minilm" if "minilm" in request.param else "folder")
    encoder, reader = load_bert(place, layers=2), load_tokenizer(place)
    if "frozen" not in request.param:
        return encoder, reader
    book = PhraseBook(SENTENCES, encoder, reader)
    return seeded(lambda: FrozenWords(book, width=8)).eval(), book


@torch.no_grad()
def test_words_do_not_depend_on_padding(pair):
    encoder, read = pair
    ids, mask = read(SENTENCES)
    single = encoder(ids, mask)
    assert single.shape == (4, 20, encoder.width) and single.dtype == torch.float32
    assert (single[~mask] == 0).all() and single[mask].abs().max() > 0.1

    together = encoder.double()(ids, mask)  # no rounding hides behind the tolerance
    garbage = torch.where(mask, ids, torch.randint(len(read), ids.shape, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(encoder(garbage, mask), together, atol=1e-9, rtol=0)
    for sentence, words, its_mask in zip(SENTENCES, together, mask):
        alone = encoder(*read([sentence], length=None))[0]
        torch.testing.assert_close(alone, words[its_mask], atol=1e-9, rtol=0)


@torch.no_grad()
def test_a_row_of_padding_alone(pair):
    encoder, read = pair
    ids, mask = read(SENTENCES)
    before = encoder(ids, mask)
    mask[1] = False
    after = encoder(ids, mask)
    assert (after[1] == 0).all() and torch.equal(after[0], before[0])
    assert (encoder(ids, torch.zeros_like(mask)) == 0).all()


def test_gradients_of_padding_are_finite(pair):
    encoder, read = pair
    ids, mask = read(SENTENCES)
    mask[1] = False
    encoder(ids, mask).square().sum().backward()
    gradients = [parameter.grad for parameter in encoder.parameters()]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)


def test_gradients_reach_every_parameter(pair):
    encoder, read = pair
    encoder(*read(SENTENCES)).pow(3).sum().backward()
    for name, parameter in encoder.named_parameters():
        if not name.endswith("key.bias"):  # the same for all keys of a query: softmax does not see it
            assert parameter.grad.abs().max() > 0, name


def test_a_state_dict_carries_it_all(pair):
    encoder, read = pair
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    ids, mask = read(SENTENCES)
    with torch.no_grad():
        before = encoder(ids, mask)
        for parameter in encoder.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        assert not torch.allclose(encoder(ids, mask), before)
        encoder.load_state_dict(state)
        assert torch.equal(encoder(ids, mask), before)


def test_shapes_alone_are_enough_to_count_it(pair):
    encoder, read = pair
    assert costs.count(encoder, *read(SENTENCES)).macs > 0


def test_half_precision_stays_finite(pair):
    encoder, read = pair
    ids, mask = read(SENTENCES)
    mask[1] = False
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        words = encoder(ids, mask)
    assert words.isfinite().all()
    torch.testing.assert_close(words.float(), encoder(ids, mask), atol=0.2, rtol=0.2)


def test_words_of_another_kind(pair, either_way):
    encoder, read = pair
    ids, mask = read(SENTENCES)
    for wrong in (-1, len(read), len(read) + 7):
        other = ids.clone()
        other[1, 2] = wrong
        with pytest.raises(ValueError, match=rf"0 to {len(read) - 1}.*{wrong}.*from the tokenizer"):
            encoder(other, mask)
    for other_ids, other_mask in ((ids.float(), mask), (ids, mask.long()), (ids, mask.float())):
        with pytest.raises(TypeError):
            encoder(other_ids, other_mask)
    for other_ids, other_mask in ((ids[0], mask[0]), (ids, mask[:1]), (ids, mask[:, 1:]), (ids[:, :0], mask[:, :0])):
        with pytest.raises(ValueError, match="batch"):
            encoder(other_ids, other_mask)


# --- each by itself


@pytest.mark.parametrize(("depth", "heads"), [(1, 1), (2, 4), (3, 2)])
def test_a_small_bert_equals_its_equations(tokenizer, depth, heads):
    encoder = shaken(seeded(lambda: SmallBert(len(tokenizer), 16, depth, heads))).double()
    ids, mask = tokenizer(SENTENCES)
    state = encoder.bert.state_dict()
    with torch.no_grad():
        words = encoder(ids, mask)
    for row, counts, expected in zip(words, mask, bert_by_hand(ids, mask, state, depth, heads)):
        torch.testing.assert_close(row[counts], expected, rtol=1e-9, atol=1e-9)


def test_sizes_of_a_small_bert():
    encoder = SmallBert(50, width=24, depth=3, heads=2, length=11)
    layer = 4 * (24 * 24 + 24) + 2 * 24 * 96 + 24 + 96 + 2 * 2 * 24
    assert sum(p.numel() for p in encoder.parameters()) == (50 + 11 + 2) * 24 + 2 * 24 + 3 * layer
    assert encoder.width == 24 and not any("pooler" in name for name in encoder.state_dict())
    ids = torch.zeros(1, 12, dtype=torch.int64)
    encoder(ids[:, :11], ids[:, :11] == 0)
    with pytest.raises(ValueError, match="12 words.*11 positions"):
        encoder(ids, ids == 0)
    with pytest.raises(ValueError, match="width 64, heads 3"):
        SmallBert(50, heads=3)


def test_bert_base_without_its_pooler():
    with torch.device("meta"):
        base = SmallBert(30522, 768, depth=12, heads=12, length=512)
    assert sum(p.numel() for p in base.parameters()) == 108_891_648
    ids = torch.zeros(1, 20, dtype=torch.int64)
    assert costs.count(base, ids, ids == 0).macs == 12 * (12 * 20 * 768**2 + 2 * 20**2 * 768)


def test_dropout_acts_in_training_only(tokenizer):
    read = tokenizer(SENTENCES)
    for dropout, same in ((0.0, True), (0.1, False)):
        encoder = SmallBert(len(tokenizer), dropout=dropout)
        assert torch.equal(encoder(*read), encoder(*read)) is same
        encoder.eval()
        assert torch.equal(encoder(*read), encoder(*read))


def test_a_seed_gives_the_same_encoder(tokenizer):
    first, second, other = (seeded(lambda: SmallBert(len(tokenizer)), seed) for seed in (0, 0, 1))
    read = tokenizer(SENTENCES)
    assert torch.equal(first(*read), second(*read)) and not torch.equal(first(*read), other(*read))


def test_it_learns_the_order_of_words_from_scratch(tokenizer):
    """Which of two things comes first: the words alone do not say it."""
    sentences = [f"the {one} left of {other}" for one, other in (("car", "tree"), ("tree", "car"))]
    sentences += [f"small {sentence}" for sentence in sentences]
    ids, mask = tokenizer(sentences)
    labels = torch.tensor([0, 1, 0, 1])
    torch.manual_seed(0)
    model = nn.ModuleDict({"encoder": SmallBert(len(tokenizer), 32), "head": nn.Linear(32, 2)})
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(60):
        loss = F.cross_entropy(model["head"](model["encoder"](ids, mask)[:, 0]), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05


# --- words that are looked up


@torch.no_grad()
def test_the_book_holds_what_the_encoder_says(folder, book):
    encoder, read = load_bert(folder), load_tokenizer(folder)
    ids, mask = book(SENTENCES)
    expected_ids, expected_mask = read(SENTENCES)
    assert torch.equal(mask, expected_mask) and ids.dtype == torch.int64 and (ids[~mask] == 0).all()
    torch.testing.assert_close(book.table[ids], encoder(expected_ids, expected_mask), atol=1e-6, rtol=0)
    assert len(book) == 1 + expected_mask.sum() and (book.table[0] == 0).all()
    assert sorted(ids[mask].tolist()) == list(range(1, len(book)))  # each word of each phrase has a row of its own
    for row, expected in zip(ids, expected_ids):
        assert book.tokens(row) == read.tokens(expected)
    short, _ = book([SENTENCES[1]], length=None)
    assert torch.equal(short[0], ids[1][mask[1]])


def test_each_phrase_is_read_once(folder):
    encoder, read, seen = load_bert(folder), load_tokenizer(folder), []
    encoder.register_forward_hook(lambda module, inputs, words: seen.append((len(inputs[0]), module.training)))
    encoder.train()
    again = PhraseBook(iter(SENTENCES * 3), encoder, read, batch_size=3)
    assert seen == [(3, False), (1, False)] and encoder.training
    assert not again.table.requires_grad and torch.is_grad_enabled()
    again(SENTENCES * 2)
    FrozenWords(again)(*again(SENTENCES))
    assert len(seen) == 2


def test_a_book_in_half_precision(folder, book):
    half = PhraseBook(SENTENCES, load_bert(folder), load_tokenizer(folder), dtype=torch.float16)
    assert half.table.dtype == torch.float16
    torch.testing.assert_close(half.table.float(), book.table, atol=2e-3, rtol=1e-3)
    words = seeded(lambda: FrozenWords(half, 8))(*half(SENTENCES))
    torch.testing.assert_close(words, seeded(lambda: FrozenWords(book, 8))(*book(SENTENCES)), atol=1e-2, rtol=0)


def test_frozen_words_are_projected_words(book):
    frozen = seeded(lambda: FrozenWords(book, 8))
    ids, mask = book(SENTENCES)
    expected = (book.table[ids] @ frozen.projection.weight.T + frozen.projection.bias) * mask[..., None]
    torch.testing.assert_close(frozen(ids, mask), expected)
    assert frozen.width == 8 and set(frozen.state_dict()) == {"projection.weight", "projection.bias"}
    assert frozen.double()(ids, mask).dtype == torch.float64


def test_phrases_that_are_not_in_the_book(folder, book):
    with pytest.raises(ValueError, match="'the blue car' is not in the book"):
        book(["the tree", "the blue car"])
    with pytest.raises(ValueError, match="10 words long, but length is 9"):
        book(SENTENCES, length=9)
    with pytest.raises(ValueError, match="number 1 is blank"):
        book(["the tree", ""])
    with pytest.raises(ValueError, match="one sentence at least"):
        PhraseBook([], load_bert(folder), load_tokenizer(folder))
    with pytest.raises(ValueError, match=f"0 to {len(book) - 1}"):
        book.tokens([len(book)])
    cut = PhraseBook(SENTENCES, load_bert(folder), load_tokenizer(folder), length=6)
    assert cut(SENTENCES, length=None)[1].sum(dim=1).max() == 6


# --- MiniLM, where it is installed


@torch.no_grad()
def test_minilm_knows_words_by_their_meaning(minilm):
    encoder, read = load_bert(minilm), load_tokenizer(minilm)
    assert encoder.width == 384 and len(read) == 30522

    def meaning(word):
        ids, mask = read([word])
        return F.normalize(encoder(ids, mask).sum(dim=1), dim=-1)[0]

    pairs = (("automobile", "car", "tree house"), ("tiny", "small", "large red"), ("kitten", "cat", "bird fish turtle"))
    for unseen, known, others in pairs:
        near = meaning(unseen) @ meaning(known)
        assert all(near > meaning(unseen) @ meaning(other) + 0.1 for other in others.split())
