"""RabbitMQ. Only this package and commands import its libraries."""
