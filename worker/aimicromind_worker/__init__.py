"""Run AiMicromind prediction jobs from RabbitMQ, and publish their events."""
