"""A private RabbitMQ node, as a process or in Docker."""
