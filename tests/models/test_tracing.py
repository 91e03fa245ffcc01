"""Models that are exported, traced, faked, or begun on the meta device; and the models of the process afterwards."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from xattn_edu import check_shapes
from xattn_edu.models.attention import attention, fused_attention
from xattn_edu.models.crossvit import CrossViT
from xattn_edu.models.decoder_fusion import DecoderFusion
from xattn_edu.models.language import SmallBert
from xattn_edu.models.lavt import LAVT
from xattn_edu.models.swin import Swin
from xattn_edu.models.transformer import Transformer
from xattn_edu.models.vit import ViT


def image(batch):
    return (torch.randn(batch, 3, 16, 16),)


def image_and_words(batch):
    words = torch.ones(batch, 6, dtype=torch.bool)
    words[:, 4:] = False
    return torch.randn(batch, 3, 24, 20), torch.randint(5, 30, (batch, 6)), words


def source_and_target(batch):
    return torch.randint(3, 20, (batch, 5)), torch.randint(3, 20, (batch, 4))


def swin(depths=(2, 1)):
    return Swin(8, depths, [2] * len(depths), window=3, patch=2)


def lavt():
    return LAVT(swin(), SmallBert(30, 8, 1, 2, 16))


MODELS = {
    "ViT": (lambda: ViT(16, 8, 8, 1, 2, classes=3), image),
    "CrossViT": (lambda: CrossViT((16, 16), (4, 8), (8, 16), (1, 1), (2, 2), encoders=1, classes=3), image),
    "Swin": (swin, image),
    "Transformer": (lambda: Transformer(20, 8, 1, 2, 16), source_and_target),
    "LAVT": (lavt, image_and_words),
    "DecoderFusion": (lambda: DecoderFusion(swin((1, 1, 2)), SmallBert(30, 8, 1, 2, 16), 16, 1, 2), image_and_words),
}
every_model = pytest.mark.parametrize(("build", "inputs"), MODELS.values(), ids=MODELS)


@pytest.fixture(autouse=True)
def unchecked():
    """Shape annotations are not checked here: a traced size is no number."""
    check_shapes(False)
    yield
    check_shapes(True)


def assert_same(one, other):
    tensors = [(one, other)] if isinstance(one, torch.Tensor) else zip(one, other, strict=True)
    for ours, theirs in tensors:
        assert type(ours) is type(theirs) is torch.Tensor
        torch.testing.assert_close(ours, theirs)


@pytest.mark.slow
@every_model
def test_an_exported_model_takes_any_batch_and_leaves_eager_models_alone(build, inputs):
    model, batch = build().eval(), torch.export.Dim("batch", min=1, max=16)
    example = inputs(2)
    exported = torch.export.export(model, example, dynamic_shapes=tuple({0: batch} for _ in example)).module()
    for size in (1, 3):
        given = inputs(size)
        assert_same(exported(*given), model(*given))
    given = inputs(2)
    assert_same(build().load_state_dict(model.state_dict()) and model(*given), exported(*given))


@every_model
@pytest.mark.filterwarnings("ignore")
def test_a_traced_model_takes_any_batch(build, inputs):
    model = build().eval()
    traced = torch.jit.trace(model, inputs(2), check_trace=False, strict=False)
    given = inputs(3)
    assert_same(traced(*given), model(*given))


@every_model
def test_nothing_faked_stays_in_the_process(build, inputs):
    """Before, a Swin that was first run in FakeTensorMode left fake tables to every Swin."""
    before, used, given = build().eval(), build().eval(), inputs(1)
    with FakeTensorMode(allow_non_fake_inputs=True):  # the weights are real, the inputs are not
        faked = used(*inputs(1))
    faked = faked if isinstance(faked, torch.Tensor) else faked[0]
    assert type(faked) is not torch.Tensor
    after = build().eval()
    after.load_state_dict(before.state_dict())
    assert_same(after(*given), before(*given))


@every_model
def test_batches_of_none_and_of_one(build, inputs):
    model, given = build().eval(), inputs(2)
    whole, nothing = model(*given), model(*(x[:0] for x in given))
    for number in range(2):
        alone = model(*(x[number : number + 1] for x in given))
        for part, one, none in zip(*([x] if isinstance(x, torch.Tensor) else x for x in (whole, alone, nothing))):
            torch.testing.assert_close(one, part[number : number + 1])
            assert none.shape == (0, *part.shape[1:])


@every_model
@pytest.mark.parametrize("assign", [False, True], ids=["copied", "assigned"])
def test_a_model_that_began_without_numbers_gets_them_from_a_state_dict(build, inputs, assign):
    first, given = build().eval(), inputs(2)
    with torch.device("meta"):
        second = build().eval()
    if not assign:
        second.to_empty(device="cpu")
        for buffer in second.buffers():
            buffer.fill_(-1)  # whatever was in memory
    second.load_state_dict(first.state_dict(), assign=assign)
    assert_same(second(*given), first(*given))


@pytest.mark.slow
@pytest.mark.parametrize("attend", [attention, fused_attention])
def test_compiled_attention_takes_masks_of_booleans_alone(attend):
    """A compiled function cannot look at integers, and integers that are added mean the opposite."""
    compiled, q = torch.compile(attend, backend="eager", fullgraph=True), torch.randn(1, 4, 8)
    keep = torch.tensor([True, False, True, True])
    torch.testing.assert_close(compiled(q, q, q, keep), attend(q, q, q, keep))
    with pytest.raises(Exception, match="True where a query may attend"):
        compiled(q, q, q, keep.int())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_on_shapes_alone(dtype):
    q = torch.empty(1, 4, 8, device="meta", dtype=dtype)
    keep = torch.ones(4, dtype=torch.int64, device="meta")
    output, weights = attention(q, q, q, keep)
    assert output.shape == (1, 4, 8) and weights.dtype == dtype
