"""Connections to the broker: opening, TLS, the socket, and AMQP frames."""
