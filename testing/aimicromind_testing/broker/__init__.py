"""A private RabbitMQ node, as a child process or in a Docker container."""
