"""The YAML: read, completed with the recipe, checked, and handed on."""
