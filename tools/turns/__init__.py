"""A model of chat turns: the worker's own protocol under a broker that is late, loses and dies."""
