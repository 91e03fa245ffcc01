"""Checks of the third graded set: patches, positions, a block that drops tokens, and a training loop."""

import itertools
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from xattn_edu.exercises.checking import close, refuse_none, two
from xattn_edu.exercises.guard import Guarded, Wrong
from xattn_edu.homework.cases import compare_named, compare_steps, several
from xattn_edu.homework.exercise import Exercise
from xattn_edu.homework.hw3_evidence import affordable_width, verdict
from xattn_edu.models import vit
from xattn_edu.models.positions import sincos_positions
from xattn_edu.training.loop import adamw

# --- patches


def _mosaic(answer: Guarded, seed: int) -> str:
    """mosaic(images, patch, order): the images with patch order[i] at place i."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    for channel, batch in ((draw.choice((2, 3)), 1), (1, 4)):
        patch, rows, columns = draw.choice(((2, 3, 4), (3, 4, 2), (2, 5, 3)))
        images = torch.randn(batch, channel, rows * patch, columns * patch, dtype=torch.double)
        order = torch.randperm(rows * columns)
        while torch.equal(order[order], torch.arange(len(order))):  # a permutation that is not its own inverse
            order = torch.randperm(rows * columns)
        expected = _assembled(images, patch, order)
        causes = _mosaic_mistakes(images, patch, order)
        where = f"images of {channel}x{rows * patch}x{columns * patch}, patch {patch}"
        compare_named(answer(images, patch, order), expected, where, causes)
    return "right, also for images that are not square"


def _assembled(
    images: Tensor, patch: int, order: Tensor, back: str = "b (row column) c p q -> b c (row p) (column q)"
) -> Tensor:
    cut = rearrange(images, "b c (row p) (column q) -> b (row column) c p q", p=patch, q=patch)[:, order]
    return rearrange(cut, back, row=images.shape[2] // patch)


def _mosaic_mistakes(images: Tensor, patch: int, order: Tensor) -> dict[str, Tensor]:
    rows, columns = images.shape[2] // patch, images.shape[3] // patch
    flat = vit.patchify(images, patch)[:, order]
    down = rearrange(images, "b c (row p) (column q) -> b (column row) c p q", p=patch, q=patch)[:, order]
    pieces = rearrange(flat, "b n (c p q) -> b n c p q", p=patch, q=patch)
    return {
        "The order is turned round: place i shows patch order[i].": _assembled(images, patch, order.argsort()),
        "The patches are in their old order.": images,
        "reshape alone does not put patches together: their rows are cut up.": flat.reshape(images.shape),
        "Places are numbered row by row, when the image is put together, too.": _assembled(
            images, patch, order, "b (column row) c p q -> b c (row p) (column q)"
        ),
        "Patches are numbered row by row: patch 1 stands right of patch 0.": rearrange(
            down, "b (row column) c p q -> b c (row p) (column q)", row=rows
        ),
        "Patches and places are numbered row by row, not column by column.": rearrange(
            down, "b (column row) c p q -> b c (row p) (column q)", row=rows
        ),
        "Rows and columns inside a patch are exchanged.": _assembled(
            images, patch, order, "b (row column) c p q -> b c (row q) (column p)"
        ),
        "Channels are mixed: a patch's values are channel, row, column.": rearrange(
            flat, "b (row column) (p q c) -> b c (row p) (column q)", row=rows, p=patch, q=patch
        ),
        "Which patch comes before which pixel: (row p), not (p row).": rearrange(
            pieces, "b (row column) c p q -> b c (p row) (q column)", row=rows
        ),
        "The order was read from its end.": _assembled(images, patch, order.flip(0)),
        "The patches are mirrored, left for right.": _assembled(images, patch, order)
        .view(*images.shape[:3], columns, patch)
        .flip(-1)
        .flatten(3),
        "The patches are mirrored, upside down.": _assembled(images, patch, order)
        .view(*images.shape[:2], rows, patch, -1)
        .flip(3)
        .view(images.shape),
        "The first channel stands for all.": _assembled(images, patch, order)[:, :1].expand_as(images),
        "The order was used twice.": _assembled(images, patch, order[order]),
        "Give the image, (batch, channel, height, width), not its patches.": flat,
        "Every image of the batch is the first one.": _assembled(images, patch, order)[:1].expand_as(images),
        "Rows of patches were moved, not patches.": _assembled(
            images, patch, torch.arange(rows * columns).view(rows, columns)[order[order < rows]].flatten()
        ),
    }


# --- positions


def _position_products(answer: Guarded, seed: int) -> str:
    """position_products(rows, columns, width): the dot product of two positions, by the offset of their places."""
    draw = random.Random(seed)
    for width in draw.sample((8, 12, 16, 32, 64), 3):
        rows, columns = draw.sample((2, 3, 4, 5, 6), 2)
        given = answer(rows, columns, width)
        refuse_none(given)
        given = torch.as_tensor(given).double() if isinstance(given, list) else given
        down, right = torch.arange(1 - rows, rows).double(), torch.arange(1 - columns, columns).double()
        expected = _products(down, right, width)
        where = f"a grid of {rows} x {columns}, width {width}"
        compare_named(given, expected, where, _product_mistakes(down, right, width))
    return "right: the products depend on the offset alone"


def _waves(offsets: Tensor, width: int, base: float = 10000.0, pairs: int = 0) -> Tensor:
    """sum_i cos(w_i x) for each offset x, w_i = base^(-i / pairs)."""
    pairs = pairs or width // 4
    return (offsets[:, None] * base ** -(torch.arange(pairs).double() / pairs)).cos().sum(dim=-1)


def _products(down: Tensor, right: Tensor, width: int, **how: Any) -> Tensor:
    return _waves(down, width, **how)[:, None] + _waves(right, width, **how)[None]


# Long because it is a list of mistakes, one after the other.
def _product_mistakes(down: Tensor, right: Tensor, width: int) -> dict[str, Tensor]:
    rows, columns = len(down) // 2 + 1, len(right) // 2 + 1
    expected = _products(down, right, width)
    table = sincos_positions((rows, columns), width)[0].double()
    quarter = width // 4
    angles = [x[:, None] * 10000.0 ** -(torch.arange(quarter).double() / quarter) for x in (down, right)]
    of_sines = angles[0].sin().sum(-1)[:, None] + angles[1].sin().sum(-1)[None]
    half = [
        (x[:, None] * 10000.0 ** -(torch.arange(quarter).double() / (2 * quarter))).cos().sum(-1) for x in (down, right)
    ]
    slow = [
        (x[:, None] * 10000.0 ** -(torch.arange(quarter).double() / width)).cos().sum(dim=-1) for x in (down, right)
    ]
    later = [
        (x[:, None] * 10000.0 ** -(torch.arange(1, quarter + 1).double() / quarter)).cos().sum(-1)
        for x in (down, right)
    ]
    both = [angle.sin().sum(-1) + angle.cos().sum(-1) for angle in angles]
    steps = 10000.0 ** -(torch.arange(quarter).double() / max(quarter - 1, 1))
    to_the_end = [(x[:, None] * steps).cos().sum(dim=-1) for x in (down, right)]
    return {
        "The product is divided by the lengths: a cosine, and a dot product is called for.": expected / (width / 2),
        "There are width/4 frequencies for the rows and width/4 for the columns, not width/2.": _products(
            down, right, width, pairs=width // 2
        ),
        "There are width/4 frequencies for the rows and for the columns, not width.": _products(
            down, right, width, pairs=width
        ),
        "The frequencies are 10000^(-i/(width/4)), i from 0: the divisor is not width.": (
            slow[0][:, None] + slow[1][None]
        ),
        "The frequencies are 10000^(-i/(width/4)): the last one is above 1/10000.": (
            to_the_end[0][:, None] + to_the_end[1][None]
        ),
        "sin a sin b + cos a cos b is the cosine of the difference, not its sine.": of_sines,
        "One pair of sine and cosine gives one cosine of the difference: no sine is left.": (
            both[0][:, None] + both[1][None]
        ),
        "The sums of rows and columns are added, not subtracted.": (
            _waves(down, width)[:, None] - _waves(right, width)[None]
        ),
        "The frequencies are 10000^(-i/(width/4)): the divisor is not width/2.": half[0][:, None] + half[1][None],
        "The base is 10000.": _products(down, right, width, base=1000.0),
        "The exponent is -i/n: frequencies fall from 1.": _products(down, right, width, base=1 / 10000.0),
        "i counts from 0: the first frequency is 1.": later[0][:, None] + later[1][None],
        "The offset in rows and the offset in columns count each for itself, not the distance of the places.": (
            2 * _waves(down[:, None].hypot(right[None]).flatten(), width).view(expected.shape)
        ),
        "Rows and columns are different channels: their sums are added, not multiplied.": (
            _waves(down, width)[:, None] * _waves(right, width)[None]
        ),
        "The columns are missing: half of the channels code them.": _waves(down, width)[:, None].expand_as(expected),
        "The rows are missing: half of the channels code them.": _waves(right, width)[None].expand_as(expected),
        "Rows of the table are offsets in rows, columns are offsets in columns.": expected.mT,
        "The table begins with the offset 1 - rows, not with 0.": expected[rows - 1 :, columns - 1 :],
        "The table begins with the offset 1 - rows; offset 0 stands in the middle.": expected.roll(
            (1 - rows, 1 - columns), (0, 1)
        ),
        "This is the product of each place with each other; the table goes by offset.": table @ table.mT,
        "A row's offset and a column's add up as two angles, not as one distance.": _waves(
            (down[:, None].abs() + right[None].abs()).flatten(), width
        ).view(expected.shape),
        "A sum over the frequencies, not a mean.": expected / quarter,
        "A position has no factor 2: each frequency gives one cosine for rows, one for columns.": 2 * expected,
    }


# --- a training loop to be mended

_FAULTS = {
    "kept": "gradients are not set to zero, so they add up from step to step",
    "probabilities": "cross_entropy is given probabilities, and takes logits",
    "unclipped": "gradients are not clipped, or only after the step, where it has no effect",
    "late": "the rate of a step is set after it, so each rate comes one step late",
}
Sizes = tuple[int, int, int, int, int, int]


def _mended_training(answer: Guarded, seed: int) -> str:
    """mended_training(images, labels, batches, rates, clip, sizes): (loss of each step, logits after the last)."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    images_count, steps, classes = 14, 6, draw.choice((3, 5))
    sizes: Any = (8, 4, draw.choice((8, 12)), 1, 2, classes)
    images = torch.randn(images_count, 1, 8, 8)
    labels = torch.randint(classes, (images_count,))
    batches = torch.stack([torch.randperm(images_count)[:5] for _ in range(steps)])
    rates = [round(draw.uniform(0.004, 0.03), 4) for _ in range(steps)]
    case = images, labels, batches, rates, draw.choice((0.1, 0.2)), sizes
    expected = _trained(*case)
    given = list(two(answer(*case), "the losses and the logits"))
    if isinstance(given[0], list | tuple) and given[0]:
        given[0] = torch.tensor([float(x) for x in given[0]])
    where = f"{steps} steps, {classes} classes"
    causes: list[dict[str, Any]] = [{}, {}]
    if not all(isinstance(mine, Tensor) and close(mine, right) for mine, right in zip(given, expected)):
        for words, mistake in _training_mistakes(*case).items():  # one after the other, because each trains
            wrong = mistake()
            if all(map(close, given, wrong)):
                raise Wrong(f"{where}: {words}")
            for found, mine, result in zip(causes, given, wrong):
                if isinstance(mine, Tensor) and not found and close(mine, result):
                    found[words] = result
    compare_named(given[0], expected[0], f"{where}, the loss of each step", causes[0])
    compare_named(given[1], expected[1], f"{where}, logits after the last step", causes[1])
    return "right: the loss of every step, and the trained model's logits"


def _trained(
    images: Tensor,
    labels: Tensor,
    batches: Tensor,
    rates: list[float],
    clip: float,
    sizes: Sizes,
    faults: tuple[str, ...] = (),
    decay: float = 0.05,
    make: Any = adamw,
    seed: int = 0,
    loss_of: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    after: bool = False,
    clip_by: Callable[[Any, float], Any] = nn.utils.clip_grad_norm_,
) -> tuple[Tensor, Tensor]:
    """Losses (step,) and logits (image, class); `faults` are some of `_FAULTS`."""
    image, patch, width, depth, heads, classes = sizes
    torch.manual_seed(seed)
    model = vit.ViT(image, patch, width, depth, heads, classes=classes, channels=1)
    optimizer = make(model, rates[0], decay)
    losses = []
    for step, batch in enumerate(batches):
        rate = rates[max(step - 1, 0)] if "late" in faults else rates[step]
        for group in optimizer.param_groups:
            group["lr"] = rate
        logits = model(images[batch])
        loss = loss_of(logits.softmax(dim=-1) if "probabilities" in faults else logits, labels[batch])
        if "kept" not in faults:
            optimizer.zero_grad()
        loss.backward()
        if "emptied" in faults:
            optimizer.zero_grad()
        if "unclipped" not in faults:
            clip_by(model.parameters(), clip)
        optimizer.step()
        losses.append(loss_of(model(images[batch]), labels[batch]) if after else loss)
        if "unclipped" in faults and "kept" in faults:
            nn.utils.clip_grad_norm_(model.parameters(), clip)  # without zero_grad it does have an effect
    with torch.no_grad():
        return torch.stack(losses).detach(), model(images)


def _clip_values(parameters: Any, clip: float) -> None:
    nn.utils.clip_grad_value_(parameters, clip)


def _of_torch(kind: Any) -> Callable[[nn.Module, float, float], Any]:
    return lambda model, rate, decay: kind(model.parameters(), lr=rate, weight_decay=decay)


def _training_mistakes(*case: Any) -> dict[str, Callable[[], tuple[Tensor, Tensor]]]:
    images, labels, batches, rates, clip, sizes = case
    trained = partial(_trained, *case)
    left = {
        "This fault is still in it: " + "; and this: ".join(_FAULTS[name] for name in names) + ".": partial(
            trained, faults=names
        )
        for count in range(1, len(_FAULTS) + 1)
        for names in itertools.combinations(_FAULTS, count)
    }
    constant = [rates[0]] * len(rates)

    def exchanged(part: int, change: Callable[[Tensor], Tensor]) -> Callable[[], tuple[Tensor, Tensor]]:
        def run() -> tuple[Tensor, Tensor]:
            results = list(trained())
            results[part] = change(results[part])
            return results[0], results[1]

        return run

    return {name: left[name] for name in list(left)[: len(_FAULTS)]} | {
        "The length of the gradient is clipped, not each of its numbers.": partial(trained, clip_by=_clip_values),
        "The gradients are set to zero after backward, so the step has none.": partial(trained, faults=("emptied",)),
        "The rates are used from the last to the first.": partial(
            _trained, images, labels, batches, rates[::-1], clip, sizes
        ),
        "Each step has its own rate: here all have the last one.": partial(
            _trained, images, labels, batches, [rates[-1]] * len(rates), clip, sizes
        ),
        "Weight decay is 0.05, not 0.01.": partial(trained, decay=0.01),
        "Weight decay is 0.05; here there is none.": partial(trained, decay=0.0),
        "adamw decays matrices alone; torch's own AdamW decays all that it is given.": partial(
            trained, make=_of_torch(torch.optim.AdamW)
        ),
        "AdamW, not Adam: Adam puts the decay into the gradient.": partial(trained, make=_of_torch(torch.optim.Adam)),
        "AdamW, not SGD.": partial(trained, make=_of_torch(torch.optim.SGD)),
        "Each step has its own rate: here all have the first one.": partial(
            _trained, images, labels, batches, constant, clip, sizes
        ),
        "The loss is the mean over the batch, not the sum.": partial(
            trained, loss_of=partial(F.cross_entropy, reduction="sum")
        ),
        "The loss is the mean over the batch; the one that is returned is the sum.": exchanged(
            0, lambda x: x * batches.shape[1]
        ),
        "The loss of a step is that of its batch *before* the step.": partial(trained, after=True),
        "Give logits, not probabilities.": exchanged(1, lambda x: x.softmax(dim=-1)),
        "Give logits, not the classes.": exchanged(1, lambda x: x.argmax(dim=-1)),
        "The batches are in `batches`: here each is the first images.": partial(
            _trained, images, labels, torch.arange(batches.shape[1]).expand_as(batches), rates, clip, sizes
        ),
        "The last step is missing.": partial(_trained, images, labels, batches[:-1], rates, clip, sizes),
        "Call torch.manual_seed(0) right before the ViT is built.": partial(trained, seed=1),
        "The gradient is clipped to `clip`, not to 1.": partial(_trained, images, labels, batches, rates, 1.0, sizes),
        **left,
    }


# --- a block that drops tokens


def _pruned_block(answer: Guarded, seed: int) -> str:
    """pruned_block(tokens, block, keep): (attention of the class token, kept patches, tokens after the block)."""
    draw = random.Random(seed)
    for _ in range(2):
        torch.manual_seed(draw.randrange(2**31))
        heads = draw.choice((2, 3, 4))
        width, patches = heads * draw.choice((5, 6)), draw.choice((7, 8, 9))
        batch, keep = 3, draw.choice((4, 5))
        block = vit.Block(width, heads, mlp_ratio=2)
        with torch.no_grad():
            for parameter in block.parameters():
                parameter.add_(torch.randn(parameter.shape) * 0.4)
        block = block.double().eval()
        tokens = torch.randn(batch, 1 + patches, width, dtype=torch.double)
        with torch.no_grad():
            expected = _pruned(tokens, block, keep)
        names = "attention", "kept", "tokens"
        given = list(several(answer(tokens, block, keep), names))
        given[1] = torch.as_tensor(given[1]) if isinstance(given[1], list) else given[1]
        if isinstance(given[1], Tensor) and given[1].is_floating_point():
            raise Wrong(f"kept holds numbers of patches, whole numbers, given {given[1].dtype}")
        where = f"{patches} patches, keep {keep}, {heads} heads"
        compare_steps(given, dict(zip(names, expected)), where, partial(_pruning_mistakes, tokens, block, keep))
    return "right: what the class token attends to stays"


def _pruned(
    tokens: Tensor,
    block: Any,
    keep: int,
    pool: Callable[[Tensor], Tensor] = lambda weights: weights.mean(dim=1)[:, 0, 1:],
    pick: Callable[[Tensor, int], Tensor] = lambda x, keep: x.topk(keep).indices.sort().values,
    take: Callable[[Tensor, Tensor], Tensor] | None = None,
    source: str = "z'",
) -> tuple[Tensor, Tensor, Tensor]:
    mixed, weights = block.attention(block.norm1(tokens), return_weights=True)
    attention = pool(weights)
    kept = pick(attention, keep)
    z = {"z'": tokens + mixed, "z": tokens, "mixed": mixed}[source]
    left = (take or _taken)(z, kept)
    return attention, kept, left + block.mlp(block.norm2(left))


def _taken(tokens: Tensor, kept: Tensor, first: int = 1) -> Tensor:
    """The class token and the patches of these numbers."""
    index = (kept + first)[..., None].expand(-1, -1, tokens.shape[-1])
    return torch.cat([tokens[:, :1], tokens.gather(1, index)], dim=1)


def _attention_mistakes(tokens: Tensor, block: Any, keep: int) -> dict[str, Any]:
    """Mistakes in what the class token attends to."""
    pruned, normed = partial(_pruned, tokens, block, keep), F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6)
    unnormed, plain = (block.attention(x, return_weights=True)[1].mean(dim=1)[:, 0, 1:] for x in (tokens, normed))
    return {
        "Attention runs on LN(z), the tokens after block.norm1.": (unnormed, None, None),
        "The class token's row: what it attends *to*. This is its column: who attends to it.": pruned(
            pool=lambda weights: weights.mean(dim=1)[:, 1:, 0]
        ),
        "The mean over the heads, not their maximum.": pruned(pool=lambda weights: weights.amax(dim=1)[:, 0, 1:]),
        "The mean over the heads, not their sum.": pruned(pool=lambda weights: weights.sum(dim=1)[:, 0, 1:]),
        "The mean over the heads, not the first head.": pruned(pool=lambda weights: weights[:, 0, 0, 1:]),
        "The class token's own weight is left out: one number for each patch.": (
            pruned(pool=lambda weights: weights.mean(dim=1)[:, 0], take=partial(_taken, first=0))
        ),
        "The mean over all queries was taken; here it is the class token's row alone.": pruned(
            pool=lambda weights: weights.mean(dim=(1, 2))[:, 1:]
        ),
        "The first norm is block.norm1, with its own weight and bias.": (plain, None, None),
    }


# Long because it is a list of mistakes, one after the other.
@torch.no_grad()
def _pruning_mistakes(tokens: Tensor, block: Any, keep: int) -> dict[str, Any]:
    pruned = partial(_pruned, tokens, block, keep)
    right = pruned()
    attention, kept, _ = right
    by_weight = attention.topk(keep).indices
    z = tokens + block.attention(block.norm1(tokens))
    left = _taken(z, kept)
    before = _taken(tokens, kept)
    first_pruned = before + block.attention(block.norm1(before))
    whole = z + block.mlp(block.norm2(z))
    fused = left.clone()
    gone = torch.ones(attention.shape, dtype=torch.bool).scatter(1, kept, False)
    rest = (attention * gone)[..., None] * z[:, 1:]
    fused = torch.cat([left, rest.sum(dim=1, keepdim=True)], dim=1)
    return _attention_mistakes(tokens, block, keep) | {
        "The weights stay as they are: without the class token's they need not sum to one.": (
            attention / attention.sum(dim=-1, keepdim=True),
            kept,
            right[2],
        ),
        "Kept are the patches with the *largest* weights.": pruned(
            pick=lambda x, keep: x.topk(keep, largest=False).indices.sort().values
        ),
        "Kept patches come in ascending order of their numbers.": (
            attention,
            kept.flip(1),
            _with_mlp(block, _taken(z, kept.flip(1))),
        ),
        "The class token goes through the attention, too: its z' is z plus the attention's output.": (
            attention,
            kept,
            _with_mlp(block, torch.cat([tokens[:, :1], left[:, 1:]], dim=1)),
        ),
        "Kept patches come in the order of their numbers, not of their weights.": (
            attention,
            by_weight,
            _with_mlp(block, _taken(z, by_weight)),
        ),
        "Kept patches come in the order of their numbers; `kept` is right, the tokens are not.": (
            attention,
            kept,
            _with_mlp(block, _taken(z, by_weight)),
        ),
        "`kept` comes in the order of the numbers, not of the weights; the tokens are right.": (
            attention,
            by_weight,
            right[2],
        ),
        "`kept` counts patches from 0; the class token has no number in it.": (attention, kept + 1, right[2]),
        "A patch's token stands one behind its number, because the class token is first.": pruned(
            take=partial(_taken, first=0)
        ),
        "keep is the number of patches; the class token comes on top.": (
            attention,
            pruned(pick=lambda x, keep: x.topk(keep - 1).indices.sort().values)[1],
            _pruned(tokens, block, keep - 1)[2],
        ),
        "The class token stays, too: 1 + keep tokens.": (attention, kept, right[2][:, 1:]),
        "Each image keeps its own patches.": pruned(
            pick=lambda x, keep: x.mean(dim=0).topk(keep).indices.sort().values.expand(len(x), -1)
        ),
        "Each image keeps its own patches; here all keep those of the first.": pruned(
            pick=lambda x, keep: x[0].topk(keep).indices.sort().values.expand(len(x), -1)
        ),
        "Tokens are dropped after the attention: the dropped ones were keys.": (
            attention,
            kept,
            _with_mlp(block, first_pruned),
        ),
        "The first residual is missing: z' = z + ...": pruned(source="mixed"),
        "The MLP starts from z', not from z: the attention's output is missing.": pruned(source="z"),
        "The second residual is missing: z'' = z' + ...": (attention, kept, block.mlp(block.norm2(left))),
        "The second norm is missing, block.norm2.": (attention, kept, left + block.mlp(left)),
        "The second norm is block.norm2.": (attention, kept, left + block.mlp(block.norm1(left))),
        "The MLP is missing.": (attention, kept, left),
        "All tokens are still there: only the kept ones go on.": (attention, kept, whole),
        "Dropped tokens are dropped, not gathered in one more token.": (attention, kept, _with_mlp(block, fused)),
    }


def _with_mlp(block: Any, tokens: Tensor) -> Tensor:
    return tokens + block.mlp(block.norm2(tokens))


EXERCISES: dict[str, Exercise] = {
    "mosaic": Exercise(_mosaic, "mosaic", 12, 1, 15, "05, 5.2"),
    "position_products": Exercise(_position_products, "position_products", 14, 2, 20, "05, 5.3"),
    "pruned_block": Exercise(_pruned_block, "pruned_block", 20, 3, 30, "05, 5.5"),
    "affordable_width": Exercise(affordable_width, "affordable_width", 14, 2, 20, "06, 6.4"),
    "mended_training": Exercise(_mended_training, "mended_training", 18, 2, 25, "06, 6.2"),
    "verdict": Exercise(verdict, "verdict", 10, 1, 15, "06, 6.4"),
}
