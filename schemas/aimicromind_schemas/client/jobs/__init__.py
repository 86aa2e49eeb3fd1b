"""Jobs of a client: submit and remember them, wait for their ends, cancel and answer them."""
