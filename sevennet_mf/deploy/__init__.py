"""From a trained model to programs that use it."""
