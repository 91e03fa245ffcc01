"""The equations: models and their layers. They import `shapes` and each other, nothing else of the library."""
