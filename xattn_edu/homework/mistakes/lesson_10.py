"""Answers to the exercises of lesson 10, referring segmentation: wrong ones, and other right ones."""

import torch

from xattn_edu.homework.mistakes.mistake import Named, entries


def longest(word, start, known, prefix="##"):
    """The end of the longest known piece that begins at `start`, or None."""
    prefix = prefix if start else ""
    return next((end for end in range(len(word), start, -1) if prefix + word[start:end] in known), None)


def shortest(word, start, known):
    prefix = "##" if start else ""
    return next((end for end in range(start + 1, len(word) + 1) if prefix + word[start:end] in known), None)


def cut(word, known, piece=longest, prefix="##"):
    """The pieces, cut until none fits, and the place that they reach."""
    pieces, start = [], 0
    while start < len(word):
        end = piece(word, start, known)
        if end is None:
            break
        pieces.append((prefix if start else "") + word[start:end])
        start = end
    return pieces, start


def word_pieces(word, known, unknown="[UNK]", **how):
    """The right answer."""
    pieces, reached = cut(word, known, **how)
    return pieces if reached == len(word) else [unknown]


def looked_up_without_marks(word, known):
    return word_pieces(word, known, piece=lambda *a: longest(*a, prefix=""), prefix="")


def kept_pieces(word, known):
    pieces, reached = cut(word, known)
    return pieces if reached == len(word) else [*pieces, "[UNK]"]


def letters_for_unknown_pieces(word, known):
    return cut(word, known, piece=lambda *a: longest(*a) or a[1] + 1)[0]


def areas(predicted, target):
    """Intersection and union of each pair of masks."""
    return (predicted & target).sum((1, 2)).double(), (predicted | target).sum((1, 2)).double()


def both_areas(predicted, target):
    return predicted.sum((1, 2)).double() + target.sum((1, 2))


def overall_and_mean(intersection, union, empty=0.0):
    each = torch.where(union > 0, intersection / union.clamp(min=1), empty)
    return (intersection.sum() / union.sum().clamp(min=1)).item(), each.mean().item()


def ious(predicted, target):
    """The right answer."""
    return overall_and_mean(*areas(predicted, target))


def dice(predicted, target):
    return overall_and_mean(2 * areas(predicted, target)[0], both_areas(predicted, target))


def intersection_counted_twice(predicted, target):
    return overall_and_mean(areas(predicted, target)[0], both_areas(predicted, target))


def of_the_target_alone(predicted, target):
    return overall_and_mean(areas(predicted, target)[0], target.sum((1, 2)).double())


def mean_twice(predicted, target):
    return (ious(predicted, target)[1],) * 2


def overall_twice(predicted, target):
    return (ious(predicted, target)[0],) * 2


def empty_masks_left_out(predicted, target):
    intersection, union = areas(predicted, target)
    each = (intersection / union)[union > 0]
    return ious(predicted, target)[0], each.mean().item()


def empty_masks_left_out_or_0(predicted, target):
    intersection, union = areas(predicted, target)
    there = union > 0
    each = intersection[there] / union[there]
    return ious(predicted, target)[0], each.sum().item() / max(1, len(each))


def rows_and_columns_exchanged(layer, maps, words, mask):
    square = maps.shape[2] == maps.shape[3]
    return attended(layer, maps.transpose(2, 3) if square else maps, words, mask[:, None])


def mean_of_pixels(predicted, target):
    each = (predicted & target).double() / (predicted | target).double(), (predicted == target).double()
    return tuple(pixels.mean() for pixels in each)


def offsets(window):
    """By how many rows, and columns, each query (first axis) lies below, and right of, each key."""
    place = torch.arange(window**2)
    return [axis[:, None] - axis for axis in (place // window, place % window)]


def bias(table, window):
    """The right answer."""
    down, right = offsets(window)
    return table[down + window - 1, right + window - 1].permute(2, 0, 1)


def bias_of_negative_indices(table, window):
    down, right = offsets(window)
    return table[down, right].permute(2, 0, 1)


def bias_of_distances(table, window):
    down, right = offsets(window)
    return table[down.abs() + window - 1, right.abs() + window - 1].permute(2, 0, 1)


def bias_of_rows(table, window):
    return table[offsets(window)[0] + window - 1, window - 1].permute(2, 0, 1)


def bias_of_columns_first(table, window):
    """Tokens numbered down the columns instead of along the rows."""
    order = torch.arange(window**2).view(window, window).T.flatten()
    return bias(table, window)[:, order][:, :, order]


def bias_of_keys(table, window):
    key = torch.arange(window**2)
    return table[key // window, key % window].T[:, None].expand(-1, window**2, -1)


def attended(layer, maps, words, mask):
    """The right answer, but for the mask, which has three axes or is None."""
    output, weights = layer(maps.flatten(2).transpose(1, 2), words, mask, return_weights=True)
    return output.transpose(1, 2).unflatten(2, maps.shape[2:]), weights.unflatten(2, maps.shape[2:])


def channels_cut_up(layer, maps, words, mask):
    tokens = maps.reshape(len(maps), -1, maps.shape[1])
    output, weights = layer(tokens, words, mask[:, None], return_weights=True)
    return output.reshape(maps.shape), weights.unflatten(2, maps.shape[2:])


def weights_averaged_over_heads(layer, maps, words, mask):
    output, weights = attended(layer, maps, words, mask[:, None])
    return output, weights.mean(1, keepdim=True)


def weights_by_columns(layer, maps, words, mask):
    output, weights = attended(layer, maps, words, mask[:, None])
    return output, weights.transpose(2, 3)


def with_a_residual(layer, maps, words, mask):
    output, weights = attended(layer, maps, words, mask[:, None])
    return maps + output, weights


SECTIONS = {
    "word_pieces": "10.3",
    "overall_and_mean_iou": "10.4",
    "window_bias": "10.5",
    "pixels_ask_words": "10.6",
}
WRONG = {
    "word_pieces": {
        "looked up without ##": Named("looked up with its ##", looked_up_without_marks),
        "shortest first": Named("not the shortest", lambda w, v: word_pieces(w, v, piece=shortest)),
        "[UNK] behind the pieces": Named("not [UNK] behind its pieces", kept_pieces),
        "another unknown piece": lambda w, v: word_pieces(w, v, unknown="unk"),
        "letters for unknown pieces": letters_for_unknown_pieces,
        "no ##": Named("carry ##", lambda w, v: [piece.removeprefix("##") for piece in word_pieces(w, v)]),
        "last piece first": lambda w, v: word_pieces(w, v)[::-1],
        "whole words": Named("is cut into pieces", lambda w, v: [w] if w in v else ["[UNK]"]),
        "known pieces alone": Named("no piece of it is kept", lambda w, v: cut(w, v)[0]),
        "one string": lambda w, v: "".join(word_pieces(w, v)),
        "nothing": Named("returns None", lambda w, v: None),
    },
    "overall_and_mean_iou": {
        "mean first": Named("Overall first", lambda p, t: ious(p, t)[::-1]),
        "empty masks as 1": Named(
            "as in the papers' evaluation", lambda p, t: overall_and_mean(*areas(p, t), empty=1.0)
        ),
        "Dice": Named("Dice", dice),
        "both areas as the union": Named("it is not the union", intersection_counted_twice),
        "the mean twice": Named("before it divides", mean_twice),
        "the overall IoU twice": Named("then takes the mean", overall_twice),
        "empty masks left out": Named("counts as 0", empty_masks_left_out),
        "empty masks left out, or 0": Named("not left out", empty_masks_left_out_or_0),
        "of the background": lambda p, t: ious(~p, ~t),
        "overall IoU alone": Named("return two numbers", lambda p, t: ious(p, t)[0]),
        "the target alone": Named("not the target alone", of_the_target_alone),
        "mean of pixels": Named("counts as 0", mean_of_pixels),
        "nothing": Named("return two numbers", lambda p, t: None),
    },
    "window_bias": {
        "key minus query": Named("not the reverse", lambda t, w: bias(t, w).mT),
        "columns, then rows": Named("Rows come first", lambda t, w: bias(t.transpose(0, 1), w)),
        "negative indices": Named("add window - 1", bias_of_negative_indices),
        "distances": Named("sign of an offset", bias_of_distances),
        "the key's place": Named("key's place alone", bias_of_keys),
        "heads last": Named("put the heads first", lambda t, w: bias(t, w).permute(1, 2, 0)),
        "tokens down the columns": Named("Rows come first", bias_of_columns_first),
        "row offsets alone": bias_of_rows,
        "the first head alone": lambda t, w: bias(t, w)[:1].expand(t.shape[2], -1, -1),
        "exponentials": lambda t, w: bias(t, w).exp(),
        "nothing": Named("returns None", lambda t, w: None),
    },
    "pixels_ask_words": {
        "no mask": Named("mask is missing", lambda f, m, w, k: attended(f, m, w, None)),
        "mask inverted": Named("inverted", lambda f, m, w, k: attended(f, m, w, ~k[:, None])),
        "columns first": lambda f, m, w, k: attended(f, m.transpose(2, 3), w, k[:, None]),
        "channels cut up": Named("cuts up the channels", channels_cut_up),
        "rows and columns exchanged": Named("changed places", rows_and_columns_exchanged),
        "maps doubled": lambda f, m, w, k: attended(f, 2 * m, w, k[:, None]),
        "weights averaged over heads": weights_averaged_over_heads,
        "weights by columns": weights_by_columns,
        "words set to 0": lambda f, m, w, k: attended(f, m, w * k[..., None], None),
        "maps alone": Named("return two tensors", lambda f, m, w, k: attended(f, m, w, k[:, None])[0]),
        "a residual": with_a_residual,
        "nothing": Named("return two tensors", lambda f, m, w, k: None),
    },
}


def by_recursion(word, known, prefix=""):
    if not word:
        return []
    for end in range(len(word), 0, -1):
        if prefix + word[:end] in known:
            rest = by_recursion(word[end:], known, "##")
            return ["[UNK]"] if rest == ["[UNK]"] else [prefix + word[:end], *rest]
    return ["[UNK]"]


def ious_one_by_one(predicted, target):
    pairs = [(int((p & t).sum()), int((p | t).sum())) for p, t in zip(predicted, target)]
    overall = sum(i for i, _ in pairs) / max(1, sum(u for _, u in pairs))
    return [overall, sum(i / u if u else 0.0 for i, u in pairs) / len(pairs)]


def bias_by_loops(table, window):
    given = torch.zeros(table.shape[2], window**2, window**2)
    for query in range(window**2):
        for key in range(window**2):
            down, right = query // window - key // window, query % window - key % window
            given[:, query, key] = table[down + window - 1, right + window - 1]
    return given


def asked_by_axes(layer, maps, words, mask):
    tokens = maps.permute(0, 2, 3, 1).reshape(len(maps), -1, maps.shape[1])
    output, weights = layer(tokens, words, mask.unsqueeze(1).expand(-1, tokens.shape[1], -1), return_weights=True)
    maps_like = (len(maps), *maps.shape[2:], -1)
    return [output.reshape(maps_like).permute(0, 3, 1, 2), weights.reshape(*weights.shape[:2], *maps.shape[2:], -1)]


RIGHT = {
    "word_pieces": {"by recursion": by_recursion, "a tuple": lambda w, v: tuple(word_pieces(w, v))},
    "overall_and_mean_iou": {
        "one by one, a list": ious_one_by_one,
        "tensors": lambda p, t: tuple(torch.tensor(x) for x in ious(p, t)),
    },
    "window_bias": {"loops": bias_by_loops, "indices": bias},
    "pixels_ask_words": {"permuted": asked_by_axes, "flatten": lambda f, x, w, m: attended(f, x, w, m[:, None])},
}

MISTAKES, DIFFERENT = entries(10, SECTIONS, WRONG, RIGHT)
