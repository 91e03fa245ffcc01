"""Train the five models of the picture of big and small letters, and store what they answer.

    python tools/letters.py

Takes some minutes. Writes results/benchmarks/letters.json.
"""

from xattn_edu.files import write_atomically
from xattn_edu.interactive.big_and_small_letters import STORED, record

if __name__ == "__main__":
    write_atomically(STORED, record().encode("utf-8"))
    print(f"{STORED.name}: five models")
