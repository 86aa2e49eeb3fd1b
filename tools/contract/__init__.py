"""Files of the contract for other languages, made from the Python types: `make contract`."""
