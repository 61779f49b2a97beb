"""The pre-flight audit of a data set: `sevennet-mf inspect`."""
