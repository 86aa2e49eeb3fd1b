"""Read the settings, build the worker from its parts, reconnect, drain and shut down."""
