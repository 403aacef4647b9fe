"""The rules of the door that need neither HTTP nor protobuf: path templates, kept answers, visitors."""
