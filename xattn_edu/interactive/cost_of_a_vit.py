"""What a ViT of any size costs, part by part: lesson 9, section 9.2. The counts are those of `measure.costs`."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from xattn_edu.interactive.picture import Picture
from xattn_edu.measure.recount import Model
from xattn_edu.measure.tables import CROSSVIT
from xattn_edu.models.vit import ViT
from xattn_edu.plots.style import GREY, ORANGE, OUTPUT, SKY, VALUE

KINDS = {"ViT": GREY, "DeiT": VALUE, "CrossViT": OUTPUT}
NAMED = ("ViT-B/32", "ViT-L/16", "DeiT-Ti", "DeiT-S", "CrossViT-B", "CrossViT-18")  # beside their points
VITS = {"ViT-B/32": "vit_base_patch32_224", "ViT-B/16": "vit_base_patch16_224", "ViT-L/16": "vit_large_patch16_224"}


def cost_of_a_vit(image: int = 224, patch: int = 16, width: int = 384, depth: int = 12) -> Picture:
    """Tokens, parameters and multiply-accumulates of a ViT that the reader sets, beside published models.

    Args:
        image: the side of the square image, in pixels, a multiple of 32 up to 2048.
        patch: the side of a patch: 4, 8, 16 or 32 pixels.
        width: channels of a token, a multiple of 64 up to 1280.
        depth: blocks, 1 to 48.

    Raises ValueError for other settings: the sliders have none.
    """
    if image not in range(32, 2049, 32) or patch not in (4, 8, 16, 32):
        raise ValueError(f"image must be a multiple of 32 up to 2048, patch 4, 8, 16 or 32, given {image} and {patch}")
    if width not in range(64, 1281, 64) or depth not in range(1, 49):
        raise ValueError(f"width must be a multiple of 64 up to 1280, depth 1 to 48, given {width} and {depth}")
    start = {"image": image, "patch": patch, "width": width, "depth": depth}
    data = {"start": start, "models": published_models(), "named": list(NAMED)}
    return Picture("cost_of_a_vit", "What a Vision Transformer costs", data, draw)


def published_models() -> list[dict[str, Any]]:
    """ViT, and the models of CrossViT's table 2: name, kind, parameters, MACs of one image; `settings` of one ViT."""
    rows = {name: Model(registered) for name, registered in VITS.items()}
    rows |= {row.name: row.model for row in CROSSVIT if row.table == 2 and row.model is not None}
    return [_described(name, model) for name, model in rows.items()]


def _described(name: str, model: Model) -> dict[str, Any]:
    costs, built = model.costs(), model.build()
    found = {"name": name, "kind": name.split("-")[0], "parameters": costs.parameters, "macs": costs.macs}
    if isinstance(built, ViT):
        embedding = built.patch_embedding
        sizes = {"width": built.positions.shape[-1], "depth": len(built.blocks)}
        found["settings"] = {"image": embedding.image_size[0], "patch": embedding.patch} | sizes
    return found


def terms(image: Any, patch: int, width: int, depth: int) -> tuple[Any, Any]:
    """MACs of all blocks, as in `costs.vit_macs`: (projections and MLPs, attention's square)."""
    tokens = (np.asarray(image) / patch) ** 2 + 1
    return 12 * tokens * width**2 * depth, 2 * tokens**2 * width * depth


def draw(data: dict[str, Any]) -> Figure:
    """The still picture: the two terms as the image grows, and the published models."""
    figure, (growth, models) = plt.subplots(1, 2, figsize=(10, 3.6))
    start, side = data["start"], np.geomspace(32, 4096, 50)
    sizes = {name: start[name] for name in ("patch", "width", "depth")}
    for macs, colour, name in zip(terms(side, **sizes), (SKY, ORANGE), ("projections and MLP", "attention's square")):
        growth.loglog(side, macs, color=colour, label=name)
    for macs, colour in zip(terms(start["image"], **sizes), (SKY, ORANGE)):
        growth.plot(start["image"], macs, "o", color=colour, mec="black")
    crossing = start["patch"] * (6 * start["width"] - 1) ** 0.5
    growth.axvline(crossing, color=GREY, lw=1, ls="--")
    growth.set(xlabel="side of the image (pixels)", ylabel="MACs", xticks=[32, 128, 512, 2048])
    growth.set_xticklabels(["32", "128", "512", "2048"])
    growth.minorticks_off()
    growth.set_title(f"The square takes over at {crossing:.0f} pixels")
    growth.legend(fontsize=9)
    for kind, colour in KINDS.items():
        chosen = [model for model in data["models"] if model["kind"] == kind]
        counts = [[model[count] for model in chosen] for count in ("parameters", "macs")]
        models.loglog(*counts, "o", color=colour, label=kind)
    for model in data["models"]:
        if model["name"] in NAMED:
            models.annotate(
                model["name"],
                (model["parameters"], model["macs"]),
                xytext=(6, -10),
                textcoords="offset points",
                fontsize=9,
            )
    models.set(xlabel="parameters", ylabel="MACs of one image", xlim=(3e6, 1e9), ylim=(6e8, 1e11))
    models.minorticks_off()
    models.set_title("Published models, counted")
    models.legend(fontsize=9)
    return figure
