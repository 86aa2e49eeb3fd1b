"""Contract of AiMicromind prediction jobs: message types, routing keys, codec."""
