"""Tests run with shape annotations checked, without the network, and in the smallest profile."""

import os

os.environ.setdefault("XATTN_CHECK_SHAPES", "1")
os.environ.setdefault("XATTN_PROFILE", "ci")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "agg")
