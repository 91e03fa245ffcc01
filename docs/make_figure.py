"""Draw the README's figures: python docs/make_figure.py"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from xattn_edu import plots
from xattn_edu.data import fashion_mnist
from xattn_edu.data import scenes as referring_scenes
from xattn_edu.models import attention_numpy

plots.use_style()
draw = np.random.default_rng(0)
figure, axes = plt.subplots(1, 4, figsize=(14, 3.5), width_ratios=[1.1, 1.3, 1, 1])

word = list("attention")
alphabet = {letter: draw.normal(size=32) for letter in sorted(set(word))}
letters = np.stack([alphabet[letter] for letter in word])
_, self_weights = attention_numpy.attention(letters, letters, letters)
plots.attention_heatmap(self_weights, queries=word, keys=word, title="Self: letters find their kind", ax=axes[0])

asking, answering = list("note"), list("attention")
query = np.stack([alphabet[letter] for letter in asking])
_, cross_weights = attention_numpy.attention(query, letters, letters)
plots.attention_heatmap(cross_weights, queries=asking, keys=answering, title="Cross: one word asks another", ax=axes[1])

boot, heel = (fashion_mnist.load("test").images[index] / 255 for index in (39, 132))
plots.patch_grid(boot, 7, title="An image as tokens", gap=2, ax=axes[2])

padded = np.pad(heel, 1, mode="edge")
tokens = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(784, 9)
weights = attention_numpy.softmax(5 * (tokens @ tokens.T - (tokens**2).sum(axis=1) / 2))
row, column = 16, 20
title = "Leather finds leather"
plots.attention_over_image(heel, weights[row * 28 + column].reshape(28, 28), title=title, ax=axes[3])
axes[3].plot(column + 0.5, row + 0.5, "o", mfc="none", mec=plots.QUERY, mew=2.5, ms=12)

figure.savefig(Path(__file__).with_name("attention.png"), dpi=90, metadata={"Software": None})

scenes = referring_scenes.scenes("test", 60, size=128)
figure, axes = plt.subplots(2, 7, figsize=(14, 4.7))
for kind, (above, below) in enumerate(axes.T):
    scene = scenes[scenes.kinds == kind][3:4]
    plots.referent(scene.images[0], sentence=f"“{scene.sentences[0]}”", width=20, ax=above)
    plots.referent(scene.images[0], scene.masks[0], ax=below)
for row, words in zip(axes, ("given: an image\nand a sentence", "wanted: the pixels\nit names")):
    row[0].text(-0.1, 0.5, words, transform=row[0].transAxes, rotation=90, ha="right", va="center", fontweight="bold")
figure.savefig(Path(__file__).with_name("referring.png"), dpi=80, metadata={"Software": None})
