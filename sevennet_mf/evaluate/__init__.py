"""What a model predicts beside its labels: errors, tables and pictures."""
