"""Measuring: costs, accuracy, overlaps of masks, intervals; the papers' tables beside our counts."""
