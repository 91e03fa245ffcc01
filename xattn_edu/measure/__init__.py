"""What is measured: costs, accuracy, overlaps of masks, intervals; the papers' tables and their recount."""
