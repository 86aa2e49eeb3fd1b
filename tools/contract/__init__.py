"""The contract's files for other languages, made from the Python types: `make contract`."""
