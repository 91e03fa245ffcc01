"""Checks of the exercises in lesson 5, patches and ViT."""

import torch
from torch import Tensor, nn

from xattn_edu.exercises.checking import Answer, Wrong, compare, exercise, refuse_none
from xattn_edu.models import vit


@exercise
def cut_patches(answer: Answer) -> str:
    """cut_patches(images, patch): (batch, channel, height, width) -> (batch, patches, channel * patch * patch)."""
    for batch, channel, height, width, patch in ((2, 3, 4, 6, 2), (1, 1, 6, 6, 3), (2, 2, 8, 4, 4), (1, 3, 4, 4, 1)):
        images = torch.arange(batch * channel * height * width).view(batch, channel, height, width).float()
        expected = vit.patchify(images, patch)
        inside = expected.view(*expected.shape[:2], channel, patch, patch)
        both_down = vit.patchify(images.transpose(2, 3), patch)
        channels_last = inside.permute(0, 1, 3, 4, 2)
        columns_first = inside.transpose(3, 4)
        patches_down = both_down.view(inside.shape).transpose(3, 4)
        inside_before_which = images.view(batch, channel, patch, height // patch, patch, width // patch)
        axes_exchanged = inside_before_which.permute(0, 3, 5, 1, 2, 4)
        mistakes = {
            "reshape alone runs along image rows, across patches.": images,
            "Patches go down the columns: token 1 should stand right of token 0.": patches_down,
            "Inside a patch the channels come first: channel, row, column.": channels_last,
            "Inside a patch the rows come before the columns.": columns_first,
            "Patches go down the columns, and inside a patch too.": both_down,
            "Each axis splits into (which patch, which row inside), in this order.": axes_exchanged,
        }
        causes = {cause: result.reshape(expected.shape) for cause, result in mistakes.items()}
        where = f"images of {channel}x{height}x{width}, patch {patch}"
        compare(answer(images.clone(), patch), expected, where, causes)
    return "right, also for images that are not square"


@exercise
def pre_norm_block(answer: Answer) -> str:
    """pre_norm_block(tokens, block): equations (2) and (3) with block.norm1, .attention, .norm2, .mlp."""
    for batch, token, width, heads in ((2, 5, 8, 2), (1, 1, 4, 1), (3, 2, 12, 3)):
        torch.manual_seed(5)
        block = vit.Block(width, heads).double().eval()
        for parameter in block.parameters():
            nn.init.normal_(parameter, std=0.5)
        tokens = torch.randn(batch, token, width, dtype=torch.double)
        causes = _block_causes(block, tokens)
        where = f"{token} token{'s' * (token > 1)}, width {width}"
        compare(answer(tokens.clone(), block), block(tokens)[0], where, causes)
    return "right, equal to the library's block"


def _block_causes(block: vit.Block, tokens: Tensor) -> dict[str, Tensor]:
    def then_mlp(mixed: Tensor) -> Tensor:
        return mixed + block.mlp(block.norm2(mixed))

    normed = block.norm1(tokens)
    attended = block.attention(normed)
    mixed = tokens + attended
    first_post_norm = block.norm1(tokens + block.attention(tokens))
    post_norm = block.norm2(first_post_norm + block.mlp(first_post_norm))
    return {
        "The residual adds the tokens before the norm: z, not LN(z).": then_mlp(normed + attended),
        "The second norm is block.norm2.": mixed + block.mlp(block.norm1(mixed)),
        "The second residual adds z', not z.": tokens + block.mlp(block.norm2(mixed)),
        "The first residual is missing: z' = z + ...": then_mlp(attended),
        "The second residual is missing: z'' = z' + ...": block.mlp(block.norm2(mixed)),
        "No norm before the attention.": then_mlp(tokens + block.attention(tokens)),
        "No norm before the MLP.": mixed + block.mlp(mixed),
        "The MLP should start from z', not from z.": mixed + block.mlp(block.norm2(tokens)),
        "This is post-norm, as in the first Transformer: in ViT the norm stands inside the branch.": post_norm,
    }


@exercise
def vit_parameters(answer: Answer) -> str:
    """vit_parameters(image_size, patch, width, depth, classes): every parameter of a ViT with MLP ratio 4."""
    for image_size, patch, width, depth, classes in ((28, 7, 16, 3, 10), (32, 8, 24, 2, 5), (28, 4, 64, 1, 7)):
        model = vit.ViT(image_size, patch, width, depth, heads=1, classes=classes)
        expected = sum(p.numel() for p in model.parameters())
        without_one_vector, without_two_vectors = expected - width, expected - 2 * width
        half_the_norms = expected - (depth * 2 + 1) * width
        four_vectors_a_block = expected - depth * 4 * width
        without_mlp_biases = expected - depth * 5 * width
        causes = {
            "One vector of the model's width is missing: the embedding's bias, the class token, or its position?": (
                without_one_vector
            ),
            "Two vectors of the model's width are missing: the last norm, or the class token and its position?": (
                without_two_vectors
            ),
            "Position embeddings are missing.": expected - model.positions.numel(),
            "In each block 4 vectors are missing: attention's four biases, or the two norms?": four_vectors_a_block,
            "A norm has a weight and a bias: half of them are missing.": half_the_norms,
            "The MLP's two layers have biases: 4 x width and width numbers.": without_mlp_biases,
            "The head has a bias.": expected - classes,
            "The head, which makes the classes' scores, is missing.": expected - (width + 1) * classes,
        }
        where = f"image {image_size}, patch {patch}, width {width}, depth {depth}, {classes} classes"
        compare(answer(image_size, patch, width, depth, classes), expected, where, causes)
    return "right to the last parameter"


@exercise
def plane_positions(answer: Answer) -> str:
    """plane_positions(rows, columns, width): vectors (rows * columns, width) whose cosines depend on offsets alone."""
    for rows, columns, width in ((4, 4, 16), (3, 6, 8), (5, 4, 64)):
        where = f"a grid of {rows} x {columns}, width {width}"
        given = answer(rows, columns, width)
        refuse_none(given)
        table = torch.as_tensor(given, dtype=torch.double)
        if tuple(table.shape) != (rows * columns, width):
            raise Wrong(f"{where}: expected shape {(rows * columns, width)}, given {tuple(table.shape)}")
        lengths = table.norm(dim=-1)
        if not (lengths > 1e-6).all():
            raise Wrong(f"{where}: a place has a vector of zeros, or of NaN: it has no direction")
        if not torch.allclose(lengths, lengths[:1].expand_as(lengths), rtol=1e-4):
            raise Wrong(f"{where}: the vectors have lengths from {lengths.min():.3g} to {lengths.max():.3g}, not one")
        unit = table / lengths[:, None]
        _check_cosines((unit @ unit.T).view(rows, columns, rows, columns), where)
    return "right: every place has its own vector, and its cosines depend on the offset alone"


def _check_cosines(cosines: Tensor, where: str) -> None:
    """Places differ, cosines depend on the offset, and neighbours are nearer than places three steps apart."""
    rows, columns = cosines.shape[:2]
    row, column = (axis.flatten() for axis in torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"))
    flat = cosines.reshape(rows * columns, -1)
    down, right = row[None] - row[:, None], column[None] - column[:, None]
    alike = (flat > 0.999) & ~torch.eye(len(flat), dtype=torch.bool)
    if alike.any():
        one, other = alike.nonzero()[0].tolist()
        cause = "do they know the column?" if row[one] == row[other] else "do they know the row?"
        raise Wrong(f"{where}: places {one} and {other} have nearly the same vector (cosine above 0.999): {cause}")
    for offset in {(int(d), int(r)) for d, r in zip(down.flatten(), right.flatten())}:
        same = flat[(down == offset[0]) & (right == offset[1])]
        if same.max() - same.min() > 1e-4:
            raise Wrong(
                f"{where}: the cosine of two places {offset[0]} rows and {offset[1]} columns apart lies between "
                f"{same.min():.3f} and {same.max():.3f}: it should not depend on where they are"
            )
    for along, across, axis in ((down, right, "row"), (right, down, "column")):
        near, far = (flat[(along.abs() == steps) & (across == 0)] for steps in (1, 3))
        if len(far) and not near.min() > far.max():
            raise Wrong(f"{where}: neighbours should be more similar than places three steps apart, along a {axis} too")
