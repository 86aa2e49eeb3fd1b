"""A job from its delivery to its acknowledgement."""
