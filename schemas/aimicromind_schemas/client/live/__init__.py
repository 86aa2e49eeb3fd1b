"""The live events of any chats, from one queue for the whole process."""
