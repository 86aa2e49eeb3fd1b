"""Speak AMQP 0-9-1 with RabbitMQ: connections, topology, jobs in, events out."""
