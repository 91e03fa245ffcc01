"""Answers to the exercises of lesson 5, patches and ViT: wrong ones, and other right ones."""

import torch
from einops import rearrange

from xattn_edu.homework.mistakes.mistake import Named, entries
from xattn_edu.models.positions import sincos_positions
from xattn_edu.models.vit import patchify


def attended(tokens, block):
    return block.attention(block.norm1(tokens))


def fed_forward(tokens, block):
    return block.mlp(block.norm2(tokens))


def without_first_residual(tokens, block):
    mixed = attended(tokens, block)
    return mixed + fed_forward(mixed, block)


def without_second_residual(tokens, block):
    return fed_forward(tokens + attended(tokens, block), block)


def without_first_norm(tokens, block):
    mixed = tokens + block.attention(tokens)
    return mixed + fed_forward(mixed, block)


def without_second_norm(tokens, block):
    mixed = tokens + attended(tokens, block)
    return mixed + block.mlp(mixed)


def norms_exchanged(tokens, block):
    mixed = tokens + block.attention(block.norm2(tokens))
    return mixed + block.mlp(block.norm1(mixed))


def mlp_on_a_post_norm(tokens, block):
    return block.norm2(tokens + block.mlp(block.norm1(tokens + block.attention(tokens))))


def block_in_place(tokens, block):
    """The right numbers, but the tokens of whoever calls it are gone."""
    tokens += attended(tokens, block)
    tokens += fed_forward(tokens, block)
    return tokens


def vit_parameters(image, patch, width, depth, classes):
    """The right answer."""
    patches = (image // patch) ** 2
    embedding = 3 * patch**2 * width + width
    class_token_and_positions = width + (1 + patches) * width
    block = 12 * width**2 + 13 * width
    last_norm, head = 2 * width, (width + 1) * classes
    return embedding + class_token_and_positions + depth * block + last_norm + head


def turned(rows, columns, width, turns):
    """Sines and cosines of each axis times its turns (row, column): right where both turn, and slowly."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = torch.stack([row.flatten() * turns[0], column.flatten() * turns[1]])
    return torch.cat([angles.sin(), angles.cos()]).T.repeat(1, width // 4)


def coordinates(rows, columns, width):
    """Of one length, and different from each other, but a plane is no circle."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    given = torch.stack([row.flatten(), column.flatten(), torch.ones(rows * columns)], dim=1)
    return torch.nn.functional.pad(given / given.norm(dim=1, keepdim=True), (0, width - 3))


def library_positions(rows, columns, width):
    return sincos_positions((rows, columns), width)[0]


def random_positions(rows, columns, width):
    given = torch.randn(rows * columns, width, generator=torch.Generator().manual_seed(0))
    return given / given.norm(dim=1, keepdim=True)


def from_normed_tokens(tokens, block):
    mixed = block.norm1(tokens) + attended(tokens, block)
    return mixed + fed_forward(mixed, block)


def first_norm_twice(tokens, block):
    mixed = tokens + attended(tokens, block)
    return mixed + block.mlp(block.norm1(mixed))


def post_norm(tokens, block):
    tokens = block.norm1(tokens + block.attention(tokens))
    return block.norm2(tokens + block.mlp(tokens))


SECTIONS = {
    "cut_patches": "5.2",
    "pre_norm_block": "5.5",
    "vit_parameters": "5.6",
    "plane_positions": "5.3",
}
WRONG = {
    "plane_positions": {
        "columns unknown": Named("know the column", lambda r, c, w: turned(r, c, w, (0.2, 0))),
        "rows unknown": Named("know the row", lambda r, c, w: turned(r, c, w, (0, 0.2))),
        "quick turns": Named("more similar than", lambda r, c, w: turned(r, c, w, (2.3, 1.9))),
        "coordinates": Named("should not depend on where", coordinates),
        "random": Named("should not depend on where", random_positions),
        "each its own": Named(
            "more similar than", lambda r, c, w: torch.eye(r * c)[:, :w] if w >= r * c else turned(r, c, w, (2.3, 1.9))
        ),
        "zeros": Named("vector of zeros", lambda r, c, w: torch.zeros(r * c, w)),
        "a grid": Named("expected shape", lambda r, c, w: turned(r, c, w, (0.2, 0.2)).view(r, c, w)),
        "of other lengths": Named(
            "have lengths", lambda r, c, w: turned(r, c, w, (0.2, 0.2)) * torch.arange(1, r * c + 1)[:, None]
        ),
        "nothing": lambda r, c, w: None,
    },
    "cut_patches": {
        "reshape alone": Named("reshape alone", lambda x, p: x.reshape(patchify(x, p).shape)),
        "down the columns": Named(
            "should stand right of", lambda x, p: rearrange(x, "b c (r p) (k q) -> b (k r) (c p q)", p=p, q=p)
        ),
        "down the columns and inside": Named("inside a patch too", lambda x, p: patchify(x.transpose(2, 3), p)),
        "channels last": Named(
            "channels come first", lambda x, p: rearrange(x, "b c (r p) (k q) -> b (r k) (p q c)", p=p, q=p)
        ),
        "columns before rows": Named(
            "rows come before", lambda x, p: rearrange(x, "b c (r p) (k q) -> b (r k) (c q p)", p=p, q=p)
        ),
        "axes split the other way": Named(
            "Each axis splits", lambda x, p: rearrange(x, "b c (p r) (q k) -> b (r k) (c p q)", p=p, q=p)
        ),
        "last patch first": lambda x, p: patchify(x, p).flip(1),
    },
    "pre_norm_block": {
        "no first residual": Named("first residual is missing", without_first_residual),
        "no second residual": Named("second residual is missing", without_second_residual),
        "no first norm": Named("No norm before the attention", without_first_norm),
        "no second norm": Named("No norm before the MLP", without_second_norm),
        "residual of the normed tokens": Named("not LN(z)", from_normed_tokens),
        "first norm twice": Named("second norm is block.norm2", first_norm_twice),
        "second residual of z": Named("second residual adds z'", lambda z, f: z + fed_forward(z + attended(z, f), f)),
        "MLP of z": Named("start from z'", lambda z, f: z + attended(z, f) + fed_forward(z, f)),
        "post-norm": Named("This is post-norm", post_norm),
        "norms exchanged": norms_exchanged,
        "the block's tokens and weights": lambda z, block: block(z),
        "the MLP on a post-norm": mlp_on_a_post_norm,
        "the tokens": lambda z, block: z,
        "in place": Named("changes `tokens` in place", block_in_place),
    },
    "vit_parameters": {
        "no position of the class token": Named("One vector of", lambda *a: vit_parameters(*a) - a[2]),
        "no last norm": Named("Two vectors of", lambda *a: vit_parameters(*a) - 2 * a[2]),
        "no bias of the head": Named("head has a bias", lambda *a: vit_parameters(*a) - a[4]),
        "no head": Named("The head, which", lambda *a: vit_parameters(*a) - (a[2] + 1) * a[4]),
        "no norms in the blocks": Named("In each block 4 vectors", lambda *a: vit_parameters(*a) - a[3] * 4 * a[2]),
        "no positions": Named("Position embeddings", lambda *a: vit_parameters(*a) - ((a[0] // a[1]) ** 2 + 1) * a[2]),
        "no biases of the norms": Named("weight and a bias", lambda *a: vit_parameters(*a) - (2 * a[3] + 1) * a[2]),
        "no biases of the MLP": Named("MLP's two layers", lambda *a: vit_parameters(*a) - a[3] * 5 * a[2]),
        "one too many": lambda *a: vit_parameters(*a) + 1,
    },
}


def cut_by_unfold(images, patch):
    return torch.nn.functional.unfold(images, patch, stride=patch).transpose(1, 2)


def cut_by_loops(images, patch):
    rows, columns = images.shape[2] // patch, images.shape[3] // patch
    given = torch.zeros(len(images), rows * columns, images.shape[1] * patch**2)
    for row in range(rows):
        for column in range(columns):
            piece = images[:, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            given[:, row * columns + column] = piece.flatten(1)
    return given


def block_by_name(tokens, block):
    first = tokens.add(attended(tokens, block))
    return fed_forward(first, block).add(first)


def parameters_one_by_one(image, patch, width, depth, classes):
    shapes = [(width, 3, patch, patch), (width,), (1, 1, width), (1, (image // patch) ** 2 + 1, width)]
    for _ in range(depth):
        shapes += [(width,)] * 4 + [(width, width), (width,)] * 4
        shapes += [(4 * width, width), (4 * width,), (width, 4 * width), (width,)]
    shapes += [(width,), (width,), (classes, width), (classes,)]
    return sum(torch.Size(shape).numel() for shape in shapes)


RIGHT = {
    "cut_patches": {
        "unfold": cut_by_unfold,
        "loops": cut_by_loops,
        "the library's": patchify,
    },
    "pre_norm_block": {"by name": block_by_name, "the block's own": lambda z, block: block(z)[0]},
    "vit_parameters": {"tensor by tensor": parameters_one_by_one, "a float": lambda *a: float(vit_parameters(*a))},
    "plane_positions": {"slow turns": lambda r, c, w: turned(r, c, w, (0.3, 0.2)), "the library's": library_positions},
}

MISTAKES, DIFFERENT = entries(5, SECTIONS, WRONG, RIGHT)
