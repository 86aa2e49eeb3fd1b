"""Take a job from its delivery to its acknowledgement."""
