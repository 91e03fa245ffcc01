"""Our models are timm's: the same logits and gradients from the same weights. `make parity` sets timm up."""

import re

import pytest
import torch

from xattn_edu import create_model, list_models
from xattn_edu.models.crossvit import CrossViT
from xattn_edu.weights import crossvit_from_published, crossvit_from_timm, crossvit_to_published, crossvit_to_timm

timm = pytest.importorskip("timm", reason="timm needs a torch of its own: `make parity` compares with it")
from timm.models.crossvit import CrossVit  # noqa: E402

NAMES = list_models("crossvit_*")


def randomised(make):
    """A model with every parameter random, norms, biases and class tokens too, and logits of order one."""
    with torch.device("meta"):
        model = make()
    model = model.to_empty(device="cpu").eval()
    noise = torch.empty(5_000_000).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))  # drawing takes long
    with torch.no_grad():
        for index, (name, parameter) in enumerate(model.named_parameters()):
            values = noise[1000 * index :][: parameter.numel()].view_as(parameter)
            if parameter.ndim > 1:
                fan_in = parameter[0].numel() if parameter.shape[0] > 1 else 1  # 1: class tokens and positions
                # Attention that does not look everywhere alike: else its gradients are small sums of large terms.
                pointed = 2 if re.search(r"attn\.w[qk]", name) else 1
                parameter.copy_(pointed * (3 / fan_in) ** 0.5 * values)
            else:
                parameter.copy_((0 if name.endswith("bias") else 1) + 0.5 * values)
    return model


def with_weights(make, state):
    with torch.device("meta"):
        model = make()
    model.load_state_dict(state, assign=True)
    return model.eval()


def logits_and_gradients(model, images):
    """Logits, and the gradients of a random sum of them by the parameters' names."""
    model.zero_grad()
    logits = model(images)
    (logits * torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    # Folded attention never reads the bias of its keys.
    gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}
    return logits.detach(), gradients


def assert_same(theirs, ours, images):
    """The logits of every model in `ours` are those of `theirs`, and so is the gradient of each of its parameters."""
    expected, their_gradients = logits_and_gradients(theirs, images)
    assert expected.std() > 0.3
    for model in ours:
        given, our_gradients = logits_and_gradients(model, images)
        our_gradients, shares = crossvit_to_timm(our_gradients), {}
        assert our_gradients.keys() == their_gradients.keys()
        for name, gradient in their_gradients.items():
            # Softmax forgets what all scores share, hence a key's bias; and where there is one key, the query too. What
            # comes out there is zero but for rounding, and is measured by the gradient of the values beside it.
            zero = name.endswith("attn.wk.bias") or not gradient.any()
            beside = re.sub(r"attn\.w[qk]\..+", "attn.wv.weight", name) if zero else name
            shares[name] = float((our_gradients[name] - gradient).norm() / their_gradients[beside].norm())
        logits, worst = float((given - expected).abs().max()), max(shares, key=shares.get)
        print(f"logits differ by {logits:.1e}, gradients by {shares[worst]:.1e} of their norm ({worst})")
        assert logits < 1e-5 and shares[worst] < 1e-4, (logits, worst, shares[worst])


def images_of(size, batch=1):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NAMES)
def test_crossvit_gives_what_timms_gives(name):
    theirs = randomised(lambda: timm.create_model(name))
    state = crossvit_from_timm(theirs.state_dict())
    ours = [with_weights(lambda folded=folded: create_model(name, folded=folded), state) for folded in (True, False)]
    own, other = (408, 384) if "408" in name else (240, 224)
    assert_same(theirs, ours, images_of(own))
    # Images of another size are resized before they meet a parameter. Without gradients our attention has shortcuts.
    with torch.no_grad():
        expected = theirs(images_of(other))
        for model in ours:
            torch.testing.assert_close(model(images_of(other)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_crossvits_state_dict_there_and_back(name):
    theirs = randomised(lambda: timm.create_model(name)).state_dict()
    ours = crossvit_from_timm(theirs)
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in create_model(name).state_dict().items()}
    assert {key: tensor.shape for key, tensor in ours.items()} == shapes
    published = {re.sub(r"^(pos_embed|cls_token)_", r"\1.", key): tensor for key, tensor in theirs.items()}
    for back, given in ((crossvit_to_timm(ours), theirs), (crossvit_to_published(ours), published)):
        assert back.keys() == given.keys() and all(torch.equal(back[key], given[key]) for key in given)
    assert all(torch.equal(tensor, ours[key]) for key, tensor in crossvit_from_published(published).items())


def small_models(depths, layers=0, multi_conv=False):
    """A small CrossViT of timm's, and ours with its weights: folded and not."""
    shape = {"img_size": 48, "img_scale": (1.0, 64 / 48), "patch_size": (12, 16), "embed_dim": (16, 32)}
    shape |= {"depth": [[*depths, layers]] * 3, "num_heads": (2, 4), "mlp_ratio": (3, 3, 1)}
    theirs = randomised(lambda: CrossVit(**shape, num_classes=10, multi_conv=multi_conv))
    same = {"fusion_depth": max(layers, 1), "embedding": "convolutions" if multi_conv else "linear"}
    same |= {"mlp_ratio": 3, "classes": 10}
    ours = [CrossViT((48, 64), (12, 16), (16, 32), depths, (2, 4), folded=folded, **same) for folded in (True, False)]
    return theirs, [model.eval() for model in ours]


@pytest.mark.parametrize("multi_conv", [False, True])
@pytest.mark.parametrize(("depths", "layers"), [((1, 4), 2), ((2, 3), 3), ((2, 2), 0)])
def test_other_depths_heads_and_layers_of_fusion(depths, layers, multi_conv):
    theirs, ours = small_models(depths, layers, multi_conv)
    for model in ours:
        model.load_state_dict(crossvit_from_timm(theirs.state_dict()))
    assert_same(theirs, ours, images_of(48, batch=3))
    assert_same(theirs, ours, images_of(50, batch=2))  # which no branch takes as it is


def test_every_norm_adds_the_same_to_the_variance():
    theirs, ours = small_models((1, 2))
    with torch.no_grad():  # tokens so small that a norm's epsilon decides what it makes of them
        for name, parameter in theirs.named_parameters():
            if re.search(r"cls_token|pos_embed|patch_embed|attn\.proj|fc2|projs\.\d\.2", name):
                parameter.mul_(1e-3)
    for model in ours:
        model.load_state_dict(crossvit_from_timm(theirs.state_dict()))
    assert_same(theirs, ours, images_of(48))


def rates(drops):
    return [getattr(drop, "drop_prob", 0.0) for drop in drops]  # where it is 0, timm has an identity


@pytest.mark.parametrize("name", ["crossvit_9_240", "crossvit_tiny_240", "crossvit_15_240", "crossvit_18_240"])
def test_blocks_and_fusions_drop_as_timms(name):
    theirs, ours = timm.create_model(name, drop_path_rate=0.3), create_model(name, stochastic_depth=0.3)
    for number, encoder in enumerate(theirs.blocks):
        for branch, depth, blocks in zip(ours.branches, ours.depths, encoder.blocks):
            mine = [block.drop.rate for block in branch.blocks[number * depth : (number + 1) * depth]]
            assert mine == pytest.approx(rates(block.drop_path1 for block in blocks), abs=1e-7)
        fusion = ours.fusions[number]
        theirs_in_fusion = rates(block.drop_path for block in encoder.fusion)
        assert [fusion.small.drop.rate, fusion.large.drop.rate] == pytest.approx(theirs_in_fusion, abs=1e-7)


# --- DeiT


def from_timms_vit(state):
    """timm's ViT as ours."""
    renamed = {}
    for name, tensor in state.items():
        name = name.replace("cls_token", "class_token").replace("pos_embed", "positions")
        name = name.replace("patch_embed.proj", "patch_embedding.projection").replace("attn.proj", "attention.output")
        if "attn.qkv" in name:
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3)):
                renamed[name.replace("attn.qkv", f"attention.{part}")] = rows
        else:
            renamed[name] = tensor
    return renamed


def test_deit_gives_what_timms_gives():
    theirs = randomised(lambda: timm.create_model("deit_small_patch16_224"))
    ours = with_weights(lambda: create_model("deit_small_patch16_224"), from_timms_vit(theirs.state_dict()))
    images = images_of(224)
    expected, gradients = logits_and_gradients(theirs, images)
    given, our_gradients = logits_and_gradients(ours, images)
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-5)
    for name, gradient in from_timms_vit(gradients).items():
        if not name.endswith("key.bias"):  # truly zero, as above
            assert (our_gradients[name] - gradient).norm() < 1e-4 * gradient.norm(), name
