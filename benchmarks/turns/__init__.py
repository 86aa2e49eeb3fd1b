"""Turns: one worker under one load, and what is measured in one."""
