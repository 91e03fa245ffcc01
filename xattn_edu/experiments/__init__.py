"""The course's measured experiments: recipes that notebooks call and `xattn reproduce` runs with several seeds.

A recipe is a function of its settings, a seed and a profile. Each run stores its result as one JSON file in results/;
notebooks read the numbers with `load_results`. sizes.py has the size of every model and data set for each profile.
"""

from xattn_edu.experiments.catalogue import EXPERIMENTS, Experiment
from xattn_edu.experiments.fashion import little_data, small_vit, vit_fashion_mnist, vit_inside, vit_mixers
from xattn_edu.experiments.fusions import fusion_rates, fusion_search, small_crossvit, train_fusion
from xattn_edu.experiments.records import Result
from xattn_edu.experiments.referring import lavt_ablation, lavt_finer, lavt_recipe, referring_segmentation
from xattn_edu.experiments.runs import RESULTS, load_results, load_weights, reproduce, result_path
from xattn_edu.experiments.translation import translate

__all__ = [
    "EXPERIMENTS",
    "RESULTS",
    "Experiment",
    "Result",
    "fusion_rates",
    "fusion_search",
    "lavt_ablation",
    "lavt_finer",
    "lavt_recipe",
    "little_data",
    "load_results",
    "load_weights",
    "referring_segmentation",
    "reproduce",
    "result_path",
    "small_crossvit",
    "small_vit",
    "train_fusion",
    "translate",
    "vit_fashion_mnist",
    "vit_inside",
    "vit_mixers",
]
