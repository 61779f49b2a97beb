"""Predictions of a model against labels: errors, tables and pictures."""
