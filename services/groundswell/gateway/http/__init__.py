"""HTTP to protobuf and back, from descriptors alone, and the ASGI application that does it."""
