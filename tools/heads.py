"""Store the attention weights of MiniLM's heads on the sentences of notebook 2, for readers who have not installed it.

    python tools/heads.py

Needs the package of `xattn_edu.weights.language.minilm_folder`. Writes results/benchmarks/heads.json.
"""

from xattn_edu.experiments import heads
from xattn_edu.files import write_atomically

if __name__ == "__main__":
    write_atomically(heads.STORED, heads.record().encode("utf-8"))
    print(f"{heads.STORED.name}: {len(heads.SENTENCES)} sentences")
