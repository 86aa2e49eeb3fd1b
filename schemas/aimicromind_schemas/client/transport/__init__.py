"""The connection to the broker: socket, TLS, frames."""
