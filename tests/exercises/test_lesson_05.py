"""Wrong answers to the exercises of lesson 5, patches and ViT."""

from einops import rearrange
from helpers.exercises import Named, accepted, covers, named, refused, says_every_cause

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
    """Right: an answer may change its input."""
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


def from_normed_tokens(tokens, block):
    mixed = block.norm1(tokens) + attended(tokens, block)
    return mixed + fed_forward(mixed, block)


def first_norm_twice(tokens, block):
    mixed = tokens + attended(tokens, block)
    return mixed + block.mlp(block.norm1(mixed))


def post_norm(tokens, block):
    tokens = block.norm1(tokens + block.attention(tokens))
    return block.norm2(tokens + block.mlp(tokens))


WRONG = {
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
    },
    "vit_parameters": {
        "no position of the class token": Named("One vector of", lambda *a: vit_parameters(*a) - a[2]),
        "no last norm": Named("Two vectors of", lambda *a: vit_parameters(*a) - 2 * a[2]),
        "no bias of the head": Named("head has a bias", lambda *a: vit_parameters(*a) - a[4]),
        "no norms in the blocks": Named("In each block 4 vectors", lambda *a: vit_parameters(*a) - a[3] * 4 * a[2]),
        "no positions": Named("Position embeddings", lambda *a: vit_parameters(*a) - ((a[0] // a[1]) ** 2 + 1) * a[2]),
        "no biases of the norms": Named("weight and a bias", lambda *a: vit_parameters(*a) - (2 * a[3] + 1) * a[2]),
        "no biases of the MLP": Named("MLP's two layers", lambda *a: vit_parameters(*a) - a[3] * 5 * a[2]),
        "one too many": lambda *a: vit_parameters(*a) + 1,
    },
}
RIGHT = {"pre_norm_block": {"in place": block_in_place}}

test_each_exercise_has_wrong_answers = covers(5, WRONG)
test_no_wrong_answer_is_accepted = refused(WRONG)
test_a_known_mistake_is_named = named(WRONG)
test_every_mistake_that_can_be_named_is_made = says_every_cause(5, WRONG)
test_a_right_answer_may_be_written_otherwise = accepted(RIGHT)
