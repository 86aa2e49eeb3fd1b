"""Relay of AiMicromind prediction jobs through RabbitMQ."""
