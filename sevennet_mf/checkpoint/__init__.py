"""Files of models: found by path or name, read safely, understood."""
