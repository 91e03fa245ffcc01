"""What users do to models, tried on every model in a reduced size; the table is docs/robustness.md."""
