"""The use cases of the door: answering from what is kept, and waiting for what starts again."""
