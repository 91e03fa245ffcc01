"""Grading homework: one confined process a student, checks that run outside it, feedback and marks."""
