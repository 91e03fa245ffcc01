"""Wrong answers to the exercises of lesson 2, self-attention in PyTorch."""

from einops import rearrange
from helpers.attention_by_hand import cross_attention, gathered
from helpers.exercises import Named, covers, named, refused, says_every_cause


def attention_parameters(width, heads, context_width):
    """The right answer."""
    return 2 * (width**2 + width) + 2 * (context_width * width + width)


def of_two_sources(layer, tokens, keys_from, values_from):
    """The right answer, with keys and values from two sources."""
    parts = layer.query(tokens), layer.key(keys_from), layer.value(values_from)
    query, key, value = (rearrange(part, "b t (h d) -> b h t d", h=layer.heads) for part in parts)
    weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
    return layer.output(rearrange(weights @ value, "b h t d -> b t (h d)"))


WRONG = {
    "heads_apart": {
        "view alone": Named("view alone", lambda x, h: x.view(len(x), h, x.shape[1], -1)),
        "every heads-th channel": Named("every heads-th", lambda x, h: rearrange(x, "b t (d h) -> b h t d", h=h)),
        "tokens before heads": lambda x, h: rearrange(x, "b t (h d) -> b t h d", h=h),
        "the tokens": lambda x, h: x,
    },
    "attention_parameters": {
        "no context": Named("context_width wide", lambda w, h, c: 4 * w * w + 4 * w),
        "values from the tokens": Named("Values, too", lambda w, h, c: attention_parameters(w, h, c) - (c - w) * w),
        "biases of the input": Named(
            "as wide as the layer's output", lambda w, h, c: attention_parameters(w, h, c) + 2 * (c - w)
        ),
        "no biases": Named("has a bias", lambda w, h, c: attention_parameters(w, h, c) - 4 * w),
        "no output projection": Named(
            "output projection is missing", lambda w, h, c: attention_parameters(w, h, c) - w * w - w
        ),
        "once for each head": Named("divide the width", lambda w, h, c: attention_parameters(w, h, c) * h),
        "of one head": lambda w, h, c: attention_parameters(w // h, h, c),
    },
    "cross_attention": {
        "self-attention": Named("self-attention", lambda f, t, c: f(t)),
        "exchanged": Named("Exchanged", lambda f, t, c: f(c, t)),
        "no output projection": Named("output projection is missing", gathered),
        "no scale": Named("sqrt(d) is missing", lambda f, t, c: f.output(gathered(f, t, c, scale=1))),
        "one head": Named("heads were not kept apart", lambda f, t, c: f.output(gathered(f, t, c, heads=1))),
        "scale of the layer": Named("width of a head", lambda f, t, c: f.output(gathered(f, t, c, scale=f.width**0.5))),
        "values from the tokens": Named("values came from the tokens", lambda f, t, c: of_two_sources(f, t, c, t)),
        "keys from the tokens": Named("keys came from the tokens", lambda f, t, c: of_two_sources(f, t, t, c)),
        "self-attention of the context": lambda f, t, c: cross_attention(f, c, c),
    },
}

test_each_exercise_has_wrong_answers = covers(2, WRONG)
test_no_wrong_answer_is_accepted = refused(WRONG)
test_a_known_mistake_is_named = named(WRONG)
test_every_mistake_that_can_be_named_is_made = says_every_cause(2, WRONG)
