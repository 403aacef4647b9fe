"""GENERATED from protos/ by `make proto`; never edited."""
