"""Checks of the exercises in lesson 5, patches and ViT."""

import torch
from torch import Tensor, nn

from xattn_edu.exercises.checking import Answer, compare, exercise
from xattn_edu.models import vit


@exercise
def cut_patches(answer: Answer) -> str:
    """cut_patches(images, patch): (batch, channel, height, width) -> (batch, patches, channel * patch * patch)."""
    for batch, channel, height, width, patch in ((2, 3, 4, 6, 2), (1, 1, 6, 6, 3), (2, 2, 8, 4, 4), (1, 3, 4, 4, 1)):
        images = torch.arange(batch * channel * height * width).view(batch, channel, height, width).float()
        expected = vit.patchify(images, patch)
        causes = {
            "reshape alone runs along image rows, across patches.": images.reshape(expected.shape),
            "Patches go down the columns: token 1 should stand right of token 0.": vit.patchify(
                images.transpose(2, 3), patch
            ),
            "Inside a patch the channels come first: channel, row, column.": expected.view(
                *expected.shape[:2], channel, patch * patch
            )
            .transpose(2, 3)
            .reshape(expected.shape),
        }
        tall = images.transpose(2, 3)
        six = images.reshape(batch, channel, patch, height // patch, patch, width // patch)
        causes |= {
            "Inside a patch the rows come before the columns.": expected.view(-1, channel, patch, patch)
            .transpose(2, 3)
            .reshape(expected.shape),
            "Patches go down the columns, and inside a patch too.": vit.patchify(tall, patch)
            .view(-1, channel, patch, patch)
            .transpose(2, 3)
            .reshape(expected.shape),
            "Each axis splits into (which patch, which row inside), in this order.": six.permute(
                0, 3, 5, 1, 2, 4
            ).reshape(expected.shape),
        }
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
        mixed = tokens + block.attention(block.norm1(tokens))
        post = block.norm1(tokens + block.attention(tokens))
        normed = block.norm1(tokens)
        causes = {
            "The residual adds what was there before the norm: z, not LN(z).": _then_mlp(
                block, normed + block.attention(normed)
            ),
            "The second norm is block.norm2.": mixed + block.mlp(block.norm1(mixed)),
            "The second residual adds z', not z.": tokens + block.mlp(block.norm2(mixed)),
            "The first residual is missing: z' = z + ...": _then_mlp(block, block.attention(block.norm1(tokens))),
            "The second residual is missing: z'' = z' + ...": block.mlp(block.norm2(mixed)),
            "No norm before the attention.": _then_mlp(block, tokens + block.attention(tokens)),
            "No norm before the MLP.": mixed + block.mlp(mixed),
            "The MLP should start from z', not from z.": mixed + block.mlp(block.norm2(tokens)),
            "This is post-norm, as in the first Transformer: here the norm stands inside the branch.": block.norm2(
                post + block.mlp(post)
            ),
        }
        compare(answer(tokens.clone(), block), block(tokens)[0], f"{token} tokens, width {width}", causes)
    return "right, equal to the library's block"


def _then_mlp(block: vit.Block, tokens: Tensor) -> Tensor:
    return tokens + block.mlp(block.norm2(tokens))


@exercise
def vit_parameters(answer: Answer) -> str:
    """vit_parameters(image_size, patch, width, depth, classes): every parameter of a ViT with MLP ratio 4."""
    for image_size, patch, width, depth, classes in ((28, 7, 16, 3, 10), (32, 8, 24, 2, 5), (28, 4, 64, 1, 7)):
        model = vit.ViT(image_size, patch, width, depth, heads=1, classes=classes)
        expected = sum(p.numel() for p in model.parameters())
        causes = {
            "One vector as wide as the model is missing: the patch embedding's bias, the class token, or its position?": (
                expected - width
            ),
            "Two vectors as wide as the model are missing: the last norm, or the class token and its position?": (
                expected - 2 * width
            ),
            "Position embeddings are missing.": expected - model.positions.numel(),
            "In each block 4 vectors are missing: attention's four biases, or the two norms?": expected
            - depth * 4 * width,
            "A norm has a weight and a bias: half of them are missing.": expected - (depth * 2 + 1) * width,
            "The MLP's two layers have biases: one 4 widths wide, one 1 wide.": expected - depth * 5 * width,
            "The head has a bias.": expected - classes,
        }
        where = f"image {image_size}, patch {patch}, width {width}, depth {depth}, {classes} classes"
        compare(answer(image_size, patch, width, depth, classes), expected, where, causes)
    return "right to the last parameter"
