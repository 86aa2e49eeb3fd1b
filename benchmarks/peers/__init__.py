"""Other ways to do the work of the worker, which it is measured beside."""
