"""The Transformer against torch's, against itself written a second time, and what it refuses."""

import copy
import itertools
import math

import pytest
import torch
from helpers.small_transformers import WORDS, close, draw, lengths, models, pair, seeds, several, shaken, small
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.utils.data import TensorDataset

from xattn_edu.measure import costs
from xattn_edu.models import transformer as tf
from xattn_edu.models.attention import causal_mask
from xattn_edu.models.decoding import beam_search, greedy_decode
from xattn_edu.models.losses import next_token_loss
from xattn_edu.models.positions import sinusoidal_positions
from xattn_edu.models.transformer import Transformer
from xattn_edu.training.loop import train
from xattn_edu.weights import transformer_from_torch

# --- against torch, and against a second implementation


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["32", "64"])
@pytest.mark.parametrize("padded", [False, True], ids=["all", "padded"])
@pytest.mark.parametrize("final_norm", [False, True], ids=["no final norm", "final norm"])
@pytest.mark.parametrize("pre_norm", [False, True], ids=["post-norm", "pre-norm"])
def test_encoder_and_decoder_equal_torchs(pre_norm, final_norm, padded, dtype, tolerance):
    theirs = nn.Transformer(12, 3, 2, 2, 20, 0.0, norm_first=pre_norm, batch_first=True)
    if not final_norm:
        theirs.encoder.norm = theirs.decoder.norm = None
    theirs = shaken(theirs, dtype).train()  # in eval mode torch would take another path
    encoder, decoder = (
        stack(12, 2, 3, 20, pre_norm=pre_norm, final_norm=final_norm).to(dtype).eval()
        for stack in (tf.Encoder, tf.Decoder)
    )
    for stack, state in zip((encoder, decoder), transformer_from_torch(theirs.state_dict())):
        stack.load_state_dict(state)
    inputs = [draw(2, n, 12, seed=n, dtype=dtype).requires_grad_() for n in (5, 4)]
    mask = (torch.arange(5) < torch.tensor([[5], [3]]))[:, None] if padded else None
    causal = nn.Transformer.generate_square_subsequent_mask(4, dtype=dtype)
    hidden = {f"{side}_key_padding_mask": None if mask is None else ~mask[:, 0] for side in ("src", "memory")}
    expected = theirs(*inputs, tgt_mask=causal, **hidden)
    memory, _ = encoder(inputs[0], mask)
    close(memory, theirs.encoder(inputs[0], src_key_padding_mask=hidden["src_key_padding_mask"]), tolerance)
    output, _ = decoder(inputs[1], memory, mask)
    close(output, expected, tolerance)

    gradients = [torch.autograd.grad(x.sin().sum(), inputs, retain_graph=True) for x in (output, expected)]
    close(*gradients, 100 * tolerance)
    for result in (output, expected):
        result.sin().sum().backward()
    of_theirs = transformer_from_torch({name: parameter.grad for name, parameter in theirs.named_parameters()})
    for stack, gradients in zip((encoder, decoder), of_theirs):
        close({name: parameter.grad for name, parameter in stack.named_parameters()}, gradients, 100 * tolerance)


@pytest.mark.parametrize(("pre_norm", "norm"), [(False, nn.Identity), (True, nn.LayerNorm)])
def test_only_pre_norm_ends_with_a_norm_unless_asked_for(pre_norm, norm):
    model = Transformer(9, 8, 1, 2, 12, pre_norm=pre_norm)
    assert type(model.encoder.norm) is type(model.decoder.norm) is norm


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("final_norm", [False, True])
def test_the_final_norm_is_the_encoders_and_the_decoders(pre_norm, final_norm):
    model = small(pre_norm=pre_norm, final_norm=final_norm)
    source, target = pair(model, [3, 2], 3)
    for stack in (model.encoder, model.decoder):
        assert type(stack.norm) is (nn.LayerNorm if final_norm else nn.Identity)
        handle = stack.norm.register_forward_hook(lambda _, inputs, output: -2 * output)
        changed = model(source, target)
        handle.remove()
        assert not torch.allclose(changed, model(source, target))


def by_hand(model, source, target):
    """The post-norm Transformer of section 3: one sentence, one position, one head at a time."""
    state, heads, width = model.state_dict(), model.encoder.layers[0].attention.heads, model.embedding.embedding_dim
    dim = width // heads

    def linear(x, name):
        return state[f"{name}.weight"] @ x + state[f"{name}.bias"]

    def embed(ids):
        for place, token in enumerate(ids):
            waves = [(math.sin, math.cos)[i % 2](place / 10000 ** (i // 2 * 2 / width)) for i in range(width)]
            yield state["embedding.weight"][token] * math.sqrt(width) + torch.tensor(waves).double()

    def attend(x, seen, name):
        query, mixed = linear(x, f"{name}.query"), []
        keys, values = ([linear(y, f"{name}.{part}") for y in seen] for part in ("key", "value"))
        for cut in (slice(head * dim, (head + 1) * dim) for head in range(heads)):
            e = [math.exp(query[cut] @ key[cut] / math.sqrt(dim)) for key in keys]
            mixed.append(sum(share / sum(e) * value[cut] for share, value in zip(e, values)))
        return linear(torch.cat(mixed), f"{name}.output")

    def layer(tokens, name, memory=None):
        parts = [lambda x, i: attend(x, tokens if memory is None else tokens[: i + 1], f"{name}.attention")]
        parts += [] if memory is None else [lambda x, i: attend(x, memory, f"{name}.cross_attention")]
        parts += [lambda x, i: linear(linear(x, f"{name}.feed_forward.fc1").clamp(min=0), f"{name}.feed_forward.fc2")]
        for number, part in enumerate(parts, 1):
            norm = {kind: state[f"{name}.residual{number}.norm.{kind}"] for kind in ("weight", "bias")}
            added = [x + part(x, i) for i, x in enumerate(tokens)]
            normed = [(x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt() for x in added]
            tokens = [x * norm["weight"] + norm["bias"] for x in normed]
        return tokens

    logits = []
    for words, written in zip(source.tolist(), target.tolist()):
        memory = list(embed(word for word in words if word != model.pad))  # padding may as well not be there
        for number in range(len(model.encoder.layers)):
            memory = layer(memory, f"encoder.layers.{number}")
        tokens = list(embed(written))
        for number in range(len(model.decoder.layers)):
            tokens = layer(tokens, f"decoder.layers.{number}", memory)
        logits.append(torch.stack([state["embedding.weight"] @ x for x in tokens]))
    return torch.stack(logits)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("changes", [{}, {"heads": 4, "depth": 1}, {"specials": (5, 3, 0), "width": 6, "heads": 1}])
def test_the_logits_equal_a_second_implementation(changes, dtype):
    model = small(**changes)
    source, target = (ids.to(dtype) for ids in pair(model, [5, 2, 1], 4))
    close(model(source, target), by_hand(model, source, target), 1e-5)  # positions are made in float32


# --- positions, embeddings, sizes


@pytest.mark.parametrize(
    ("length", "width", "first"), [(1, 2, 0), (50, 8, 0), (7, 512, 0), (3, 6, 40), (0, 4, 0), (1, 2, 2**24 + 1)]
)
def test_positions_by_their_formula(length, width, first):
    positions = sinusoidal_positions(length, width, first)
    assert positions.shape == (length, width)
    for place, i in itertools.product(range(length), range(width // 2)):
        angle = (first + place) / 10000 ** (2 * i / width)
        waves = math.sin(angle), math.cos(angle)
        assert positions[place, 2 * i : 2 * i + 2].tolist() == pytest.approx(waves, abs=1e-5)


def test_one_matrix_embeds_both_sentences_and_scores_words():
    model, sentence = small(width=4, hidden=5, depth=1, vocabulary=7), (torch.tensor([[3, 4]]), torch.tensor([[1, 5]]))
    assert [name for name, p in model.named_parameters() if p.shape == (7, 4)] == ["embedding.weight"]
    weight = model.embedding.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda w: functional_call(model, {"embedding.weight": w}, sentence), weight)


def test_parameters_of_the_base_model():
    with torch.device("meta"):
        model = Transformer(37_000)
    counted = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert counted == {"embedding": 18_944_000, "drop": 0, "encoder": 18_914_304, "decoder": 25_224_192}
    assert sum(p.numel() for p in model.parameters()) == 63_082_496


def test_initial_weights():
    torch.manual_seed(0)
    model = Transformer(500, 64, 1, 4, 192)
    for linear in (module for module in model.modules() if isinstance(module, nn.Linear)):
        bound = (6 / sum(linear.weight.shape)) ** 0.5
        assert (linear.bias == 0).all() and 0.99 * bound < linear.weight.abs().max() <= bound
    assert model.embedding.weight.std().item() == pytest.approx(1 / 8, rel=0.05)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_dropout_falls_on_the_embeddings_and_on_every_sub_layers_output(pre_norm):
    model = small(pre_norm=pre_norm, dropout=1.0).train()
    assert (model.embed(torch.tensor([[3, 4]])) == 0).all()
    rates = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    assert rates == [1.0] * (1 + 2 * 2 + 2 * 3)
    tokens = draw(2, 3, 8)
    for layer, memory in ((model.encoder.layers[0], []), (model.decoder.layers[0], [draw(2, 5, 8)])):
        expected = tokens  # nothing is added to the tokens: only post-norm's norms remain
        for residual in [] if pre_norm else list(layer.children())[2 + len(memory) :]:
            expected = residual.norm(expected)
        close(layer(tokens, *memory)[0], expected)


# --- what may change what


@several
@given(models, lengths, st.integers(2, 6), st.data())
def test_no_token_sees_a_later_one(model, lengths, written, data):
    source, target = pair(model, lengths, written)
    other, place = target.clone(), data.draw(st.integers(1, written - 1))
    other[:, place:] = (target[:, place:] + 1) % model.embedding.num_embeddings
    for call in (model, lambda *ids: model(*ids, return_weights=True)[0]):
        one, two = call(source, target), call(source, other)
        assert torch.equal(one[:, :place], two[:, :place]) and not torch.equal(one[:, place:], two[:, place:])


@pytest.mark.slow
@several
@given(models, lengths, st.integers(1, 4), st.integers(1, 4), seeds)
def test_padding_and_neighbours_change_nothing(model, lengths, written, more, seed):
    source, target = pair(model, lengths, written, seed)
    logits, padding = model(source, target), torch.full((len(lengths), more), model.pad)
    close(model(torch.cat([source, padding], dim=1), target), logits)
    close(model(source, torch.cat([target, padding], dim=1))[:, :written], logits)
    for row, length in enumerate(lengths):
        close(model(source[row : row + 1, :length], target[row : row + 1])[0], logits[row])
    source[1:], target[1:] = source[:1], model.end
    assert torch.equal(model(source, target)[0], logits[0])


def test_a_source_of_padding_alone_gives_finite_numbers():
    model, source = small(), torch.tensor([[0, 0], [3, 4]])
    logits, maps = model(source, torch.tensor([[1, 5], [1, 5]]), return_weights=True)
    assert (maps.encoder[0][0] == 0).all() and (maps.cross[0][0] == 0).all()
    model(source, torch.tensor([[1, 5], [1, 5]])).sum().backward()
    numbers = [logits, beam_search(model, source, 3)[1], *(parameter.grad for parameter in model.parameters())]
    assert all(number.isfinite().all() for number in numbers)


@several
@given(models, lengths, st.integers(1, 5))
def test_all_maps_are_shares_of_what_may_be_seen(model, lengths, written):
    source, target = pair(model, lengths, written)
    logits, maps = model(source, target, return_weights=True)
    close(model(source, target), logits)
    valid, heads = (source != model.pad)[:, None, None], model.encoder.layers[0].attention.heads
    for kind, queries, seen in (
        (maps.encoder, source.shape[1], valid),
        (maps.decoder, written, causal_mask(written)),
        (maps.cross, written, valid),
    ):
        assert len(kind) == len(model.encoder.layers)
        for weights in kind:
            assert torch.equal(weights > 0, seen.expand(len(source), heads, queries, -1))
            close(weights.sum(-1), torch.ones(len(source), heads, queries).double())


# --- loss, training, copies, costs


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("pad", [0, 3])
def test_the_loss_is_the_mean_over_tokens_that_are_not_padding(pad, smoothing):
    logits, target, expected = draw(2, 3, 5), torch.tensor([[4, 2, pad], [1, pad, pad]]), 0
    for row, place in ((0, 0), (0, 1), (1, 0)):
        log_ps = logits[row, place] - logits[row, place].exp().sum().log()
        expected -= ((1 - smoothing) * log_ps[target[row, place]] + smoothing * log_ps.mean()) / 3
    logits[target == pad] = 1e9
    close(next_token_loss(logits, target, pad, smoothing), expected)


def test_it_learns_to_copy_and_goes_on_from_its_checkpoint(tmp_path):
    def fresh():
        torch.manual_seed(0)
        return Transformer(8, 16, 1, 2, 32)

    words = torch.randint(3, 8, (64, 3), generator=torch.Generator().manual_seed(0))
    target = nn.functional.pad(nn.functional.pad(words, (1, 0), value=1), (0, 1), value=2)
    run = {"train_set": TensorDataset(words, target[:, :-1], target[:, 1:]), "epochs": 15, "batch_size": 16}
    run |= {"learning_rate": 2e-2, "loss": next_token_loss, "progress": False, "device": "cpu"}
    models, file = [fresh(), fresh()], {"checkpoint": tmp_path / "run.safetensors"}
    history = train(models[0], **run)
    assert history["loss"][-1] < 0.4 * history["loss"][0]
    with pytest.raises(ZeroDivisionError):  # which stops it in the middle
        train(fresh(), **run, **file, evaluate=lambda _: 1 / 0, evaluate_every=8)
    train(models[1], **run, **file)
    close(*(model.state_dict() for model in models), 0)


def test_copies_and_a_state_dict_carry_the_model():
    model, again = small(dtype=torch.float32), Transformer(9, 8, 2, 2, 12).eval()
    again.load_state_dict(model.state_dict())
    logits, *others = (m(*pair(model, [2, 4], 3)) for m in (model, again, copy.deepcopy(model)))
    assert all(torch.equal(logits, other) for other in others)
    close(again.double()(*pair(model, [2, 4], 3)).float(), logits, 1e-4)
    shared = {id(p) for p in copy.deepcopy(model).parameters()} & {id(p) for p in model.parameters()}
    assert not shared and len(copy.deepcopy(model).state_dict()) == len(list(model.parameters()))


def test_costs_by_their_formula():
    d, h, n, s, t, v = 8, 12, 2, 5, 3, 9
    counted = costs.count(small(), torch.full((1, s), 3), torch.full((1, t), 3))
    assert counted.attention_macs == n * (2 * s * s * d + 2 * t * t * d + 2 * t * s * d)
    linear = n * (4 * s * d * d + 2 * s * d * h + (6 * t + 2 * s) * d * d + 2 * t * d * h) + t * d * v
    assert counted.macs == linear + counted.attention_macs
    assert counted.parameters == sum(p.numel() for p in small().parameters())


# --- what is refused, and what is not


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: small(width=7, heads=1), "even, given 7"),
        (lambda: small(heads=3), "width 8, heads 3"),
        (lambda: small(depth=0), "depth.*given 0"),
        (lambda: small(hidden=0), "hidden.*given 0"),
        (lambda: small(pad=1), "vocabulary=9, given 1, 1, 2"),
        (lambda: small(end=9), "vocabulary=9, given 0, 1, 9"),
        (lambda: small(start=-1), "vocabulary=9, given 0, -1, 2"),
        (lambda: sinusoidal_positions(3, 5), "even, given 5"),
        (lambda: sinusoidal_positions(3, 0), "even, given 0"),
        (lambda: greedy_decode(small(), WORDS, 0), "length.*given 0"),
        (lambda: beam_search(small(), WORDS, -1), "length.*given -1"),
        (lambda: beam_search(small(), WORDS, 3, beams=0), "beams.*given 0"),
        (lambda: small()(WORDS, WORDS[:1]), "batch"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(call, says):
    with pytest.raises(ValueError, match=says):
        call()


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(
    ("ids", "error", "says"),
    [
        (WORDS.float(), TypeError, "float32|f32"),
        (WORDS > 3, TypeError, "bool"),
        (WORDS + 4, ValueError, "from 4 to 10.*0 to 8"),
        (WORDS - 1, ValueError, "from -1 to 5"),
        (WORDS[:, :0], ValueError, r"\(2, 0\)"),
        (WORDS[0], ValueError, r"\(3,\)"),
    ],
)
def test_ids_are_checked_before_any_work(ids, error, says):
    model = small()
    model.embedding.register_forward_pre_hook(lambda *_: pytest.fail("computed"))
    for call in (lambda: model(ids, WORDS), lambda: greedy_decode(model, ids, 3), lambda: beam_search(model, ids, 3)):
        with pytest.raises(error, match=f"(?s)source.*({says})"):
            call()
    with pytest.raises(error, match=f"(?s)target.*({says})"):
        model(WORDS, ids)


def test_an_empty_batch_gives_no_logits_and_no_sentences():
    model, nothing = small(), WORDS[:0].int()
    assert model(nothing, nothing).shape == (0, 3, 9) and greedy_decode(model, nothing, 3).shape[0] == 0


# --- found by attacking it


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_mask_of_two_axes_is_refused(batch):
    tokens, mask = torch.randn(batch, 3, 8), torch.ones(batch, 3) > 0
    attention = tf.MultiHeadAttention(8, 2)
    for call in (
        lambda: tf.Encoder(8, 1, 2, 12)(tokens, mask),
        lambda: tf.Decoder(8, 1, 2, 12)(tokens, tokens, mask),
        lambda: attention.attend(tokens, *attention.keys_and_values(tokens), mask),
    ):
        with pytest.raises(ValueError, match=r"mask \(\d, 3\)"):
            call()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16])
def test_ids_of_8_and_16_bits_are_refused_by_name(dtype):
    with pytest.raises(TypeError, match="source must be whole numbers, int64 or int32"):
        greedy_decode(small(), WORDS.to(dtype), 2)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("ids", [[[3, 4]], WORDS.numpy()], ids=["list", "numpy"])
def test_what_is_no_tensor_is_refused_by_name(ids):
    for call in (lambda: small()(ids, ids), lambda: greedy_decode(small(), ids, 2)):
        with pytest.raises(TypeError, match="source"):
            call()


def test_the_loss_takes_ids_of_32_bits():
    logits = draw(2, 3, 9)
    assert next_token_loss(logits, WORDS.int()) == next_token_loss(logits, WORDS.long())


@pytest.mark.usefixtures("either_way")
def test_step_checks_its_ids():
    model = small()
    with pytest.raises(ValueError, match="0 to 8"):
        model.step(torch.tensor([9, 1]), model.begin(WORDS))


def test_late_positions_are_precise():
    angles = torch.arange(6000).double()[:, None] * 10000.0 ** -(torch.arange(0, 64, 2).double() / 64)
    torch.testing.assert_close(sinusoidal_positions(6000, 64)[:, ::2].double(), angles.sin(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("stack", [tf.Encoder, tf.Decoder])
def test_a_stack_has_a_layer(stack):
    with pytest.raises(ValueError, match="depth"):
        stack(8, 0, 2, 12)
